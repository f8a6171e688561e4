"""Checking data sets against what they say of themselves."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from pipelines.inspect import DataSet
from schemas.digest import digest
from schemas.manifest import INDEX_DIR, REJECTED_DIR, SHARDS_DIR, Manifest
from schemas.sample import member_extension
from schemas.shards import Expected, Skipped, samples, walk
from schemas.shards import verify as verify_shard
from schemas.store import Store


class Problem(NamedTuple):
    """Something wrong: in which file, what, and at which member."""

    file: str
    what: str
    member: str


def verify(data: DataSet) -> tuple[dict[str, int], list[Problem]]:
    """Read every byte of a data set: counts of what was checked, and the problems found."""
    return _verify_foreign(data) if data.manifest is None else _verify_published(data)


def _verify_published(data: DataSet) -> tuple[dict[str, int], list[Problem]]:
    assert data.manifest is not None
    store = Store(data.root)
    problems: list[Problem] = []
    keys: set[bytes] = set()
    total = 0
    for number, shard in enumerate(data.manifest.shards):
        if shard.name != f"{data.manifest.dataset}-{number:06d}.tar":
            problems.append(Problem(shard.name, "the numbers of the shards have a gap", ""))
        index = f"{INDEX_DIR}/{shard.name.removesuffix('.tar')}.parquet"
        try:
            raw = store.read(index)
            if digest(raw).hex() != shard.index_digest:
                problems.append(Problem(index, "the index is not what was published", ""))
                continue
            with store.open(index) as file:
                rows = pq.ParquetFile(file).read(columns=["key", "parts"]).to_pylist()
        except FileNotFoundError:
            problems.append(Problem(index, "missing", ""))
            continue
        if len(rows) != shard.samples:
            problems.append(Problem(index, f"{len(rows)} rows where {shard.samples} were published", ""))
        total += len(rows)
        for row in rows:
            hashed = digest(row["key"].encode())
            if hashed in keys:
                problems.append(Problem(index, "the key stands in the data set twice", row["key"]))
            keys.add(hashed)
        problems += _verify_members(store, shard.name, shard.digest, rows)
    if total != data.manifest.samples:
        problems.append(Problem("manifest.json", f"{data.manifest.samples} samples stated, {total} found", ""))
    problems += _verify_rejects(store, data.manifest)
    return {"shards": len(data.shards), "samples": total}, problems


def _verify_rejects(store: Store, manifest: Manifest) -> Iterator[Problem]:
    for rejected in manifest.rejected_files:
        name = f"{REJECTED_DIR}/{rejected.name}"
        try:
            if digest(store.read(name)).hex() != rejected.digest:
                yield Problem(name, "its bytes are not what was published", "")
        except FileNotFoundError:
            yield Problem(name, "missing", "")
    stated = sum(rejected.rows for rejected in manifest.rejected_files)
    if stated != manifest.rejected:
        yield Problem("manifest.json", f"{manifest.rejected} rejects stated, {stated} in its files", "")


def _verify_members(store: Store, name: str, expected_digest: str, rows: list[dict[str, Any]]) -> list[Problem]:
    wanted = [
        Expected(f"{row['key']}.{member_extension(p['name'], p['format'])}", p["offset"], p["size"], p["digest"])
        for row in rows
        for p in row["parts"] or ()
    ]
    records = {f"{row['key']}.json" for row in rows}
    try:
        with _on_disk(store, f"{SHARDS_DIR}/{name}") as path:
            found = verify_shard(path, wanted, expected_digest)
    except FileNotFoundError:
        return [Problem(name, "missing", "")]
    return [Problem(name, m.reason, m.name) for m in found if m.reason != "unexpected" or m.name not in records]


@contextlib.contextmanager
def _on_disk(store: Store, name: str) -> Iterator[str]:
    """A path where an object can be read as a local file; a copy that goes afterwards when the store is remote."""
    if store.local:
        yield store.path(name)
        return
    with tempfile.NamedTemporaryFile(suffix=".tar") as copy, store.open(name) as remote:
        shutil.copyfileobj(remote, copy, 1 << 20)
        copy.flush()
        yield copy.name


def _verify_foreign(data: DataSet) -> tuple[dict[str, int], list[Problem]]:
    problems: list[Problem] = []
    total = 0
    for tar in data.shards:
        for found in samples(walk(tar)):
            if isinstance(found, Skipped):
                problems.append(Problem(tar, found.reason, found.name))
                continue
            total += 1
            problems += [Problem(tar, problem.reason, problem.name) for problem in found.problems]
    return {"shards": len(data.shards), "samples": total}, problems
