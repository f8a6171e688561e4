"""Checking data sets against what they say of themselves."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from pipelines.inspect.dataset import DataSet
from schemas.digest import digest
from schemas.errors import DataError
from schemas.manifest import INDEX_DIR, REJECTED_DIR, SHARDS_DIR, Manifest
from schemas.sample import member_extension
from schemas.shards import Expected, Skipped, samples, walk
from schemas.shards import verify as verify_shard
from schemas.store import Store

CHANGED = "its bytes are not what was published"
MISSING = "missing"
_WORDS = {  # what people read instead of the words that rejects are counted by
    "shard_digest": CHANGED,
    "digest": "this member's bytes are not what was published",
    "missing": "this member is missing",
    "unexpected": "this member was not published",
    "truncated": "truncated: the tar ends too early",
    "bad_header": "this member's header is broken; nothing behind it can be read",
    "trailing_data": "data stands behind the end of the tar",
    "duplicate_key": "the key or an extension of it stands in the tar twice",
    "no_extension": "the name of this member has no extension, so it belongs to no sample",
}


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
    whole = True
    for number, shard in enumerate(data.manifest.shards):
        if shard.name != f"{data.manifest.dataset}-{number:06d}.tar":
            problems.append(Problem(shard.name, "the numbers of the shards have a gap", ""))
        index = f"{INDEX_DIR}/{shard.name.removesuffix('.tar')}.parquet"
        rows, wrong = _index_rows(store, index, shard.index_digest)
        found = _verify_members(store, shard.name, shard.digest, rows)
        if wrong:
            problems.append(Problem(index, wrong, ""))
        problems += found
        if rows is None:
            total += 0 if found else shard.samples  # the tar is what was published, and so are its samples
            whole = whole and not found
            continue
        if len(rows) != shard.samples:
            problems.append(Problem(index, f"{len(rows)} rows where {shard.samples} were published", ""))
        total += len(rows)
        for row in rows:
            hashed = digest(row["key"].encode())
            if hashed in keys:
                problems.append(Problem(index, "the key stands in the data set twice", row["key"]))
            keys.add(hashed)
    if whole and total != data.manifest.samples:
        problems.append(Problem("manifest.json", f"{data.manifest.samples} samples stated, {total} found", ""))
    problems += _verify_rejects(store, data.manifest)
    return {"shards": len(data.shards), "samples": total}, problems


def _index_rows(store: Store, index: str, published: str) -> tuple[list[dict[str, Any]] | None, str]:
    """Keys and parts in the index of a shard, or None and what is wrong with it."""
    try:
        if digest(store.read(index)).hex() != published:
            return None, CHANGED
        with store.open(index) as file:
            rows: list[dict[str, Any]] = pq.ParquetFile(file).read(columns=["key", "parts"]).to_pylist()
    except FileNotFoundError:
        return None, MISSING
    return rows, ""


def _verify_rejects(store: Store, manifest: Manifest) -> Iterator[Problem]:
    for rejected in manifest.rejected_files:
        name = f"{REJECTED_DIR}/{rejected.name}"
        try:
            if digest(store.read(name)).hex() != rejected.digest:
                yield Problem(name, CHANGED, "")
        except FileNotFoundError:
            yield Problem(name, MISSING, "")
    stated = sum(rejected.rows for rejected in manifest.rejected_files)
    if stated != manifest.rejected:
        yield Problem("manifest.json", f"{manifest.rejected} rejects stated, {stated} in its files", "")


def _verify_members(store: Store, name: str, expected_digest: str, rows: list[dict[str, Any]] | None) -> list[Problem]:
    """Compare a tar with its digest, and with the rows of its index where they are known."""
    wanted = [
        Expected(f"{row['key']}.{member_extension(p['name'], p['format'])}", p["offset"], p["size"], p["digest"])
        for row in rows or ()
        for p in row["parts"] or ()
    ]
    records = {f"{row['key']}.json" for row in rows or ()}
    try:
        with _on_disk(store, f"{SHARDS_DIR}/{name}") as path:
            found = verify_shard(path, None if rows is None else wanted, expected_digest)
    except FileNotFoundError:
        return [Problem(name, MISSING, "")]
    except DataError as error:
        return [Problem(name, error.message, "")]
    return [_problem(name, *m[:2]) for m in found if m.reason != "unexpected" or m.name not in records]


def _problem(file: str, member: str, reason: str) -> Problem:
    return Problem(file, _WORDS.get(reason, reason), member)


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
        try:
            for found in samples(walk(tar)):
                if isinstance(found, Skipped):
                    problems.append(_problem(tar, found.name, found.reason))
                    continue
                total += not found.problems
                problems += [_problem(tar, problem.name, problem.reason) for problem in found.problems]
        except DataError as error:
            problems.append(Problem(tar, error.message, ""))
    return {"shards": len(data.shards), "samples": total}, problems
