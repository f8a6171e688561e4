"""Work of a pack: rows become records, a layout gives every record its shard, and each shard is one unit.

1. pack_rows: each unit's rows as index rows and rendered JSON, sorted by packing order.
2. layout: one merge over (order, bytes): which slice of which unit goes into which shard; no gaps in numbers.
3. shard: one tar and its index; media is copied by ranges, read in source order, written at known offsets.
4. rejects: the view of what a node rejected, exported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.frame import Frame
from pipelines.ledger import ALL_LIVE, Commit, StepTally, table_digests
from pipelines.work.bench import Bench, Job
from pipelines.work.combine import whole_rows
from pipelines.work.members import write_members
from pipelines.work.parts import PartColumns
from pipelines.work.records import broken_json, records
from schemas.columns import DROP, PARTS
from schemas.digest import canonical_json, digest, key_digests
from schemas.errors import SampleError
from schemas.manifest import GROUPS_KEY, INDEX_DIR, INDEX_GROUP, INDEX_GROUP_BYTES, REJECTED_DIR, SHARDS_DIR
from schemas.shards.header import entry_sizes
from schemas.shards.writer import ShardWriter
from schemas.store import STORE_SCHEME, Store, is_local, local_path

BROKEN_JSON = "broken_json"
DUPLICATE_KEY = "duplicate_key"
PACK = "pack"
_GROUP = 512  # rows in a row group of records: what a shard reads at least of each unit


def pack_rows_work(bench: Bench, job: Job, model: Any) -> Commit:
    """Live rows with all columns and packed parts, their record as JSON and their bytes in a tar."""
    assert job.reading is not None
    frame = Frame(bench.ledger, job.reading)
    types, record = job.inputs["types"], job.inputs["record"]
    table = whole_rows(frame, types, np.flatnonzero(frame.live))
    keys = table.column("key").combine_chunks()
    parts = PartColumns(table.column("parts").combine_chunks())
    rendered = records(table, record, parts.views())
    drops: list[dict[str, str] | None] = [None] * len(table)
    rejected: Counter[str] = Counter()
    for row, (reason, detail) in _unusable(bench, table, job.inputs["unchecked"], parts).items():
        drops[row] = {"step": PACK, "reason": reason, "detail": detail}
        rejected[reason] += 1
    tally = StepTally(PACK, len(table), len(table) - rejected.total(), dict(rejected))
    sizes = entry_sizes(
        [f"{key}.json" for key in keys.to_pylist()], pc.binary_length(rendered).to_numpy().astype(np.int64)
    )
    np.add.at(sizes, parts.rows, entry_sizes(parts.member_names(keys), parts.sizes))
    ordered = table.column("order").combine_chunks() if "order" in types else pa.nulls(len(table), pa.int64())
    table = table.append_column("_order", ordered.fill_null(0))
    table = table.append_column("_bytes", pa.array(sizes, pa.int64()))
    table = table.append_column("_json", rendered)
    table = table.append_column("_drop", pa.array(drops, DROP))
    dead = np.array([drop is not None for drop in drops], dtype=bool)
    table = table.take(pa.array(np.lexsort((np.arange(len(table)), ordered.fill_null(0).to_numpy(), dead))))
    commit = Commit(
        job.fp,
        len(table),
        tally.kept,
        ALL_LIVE,
        bool(tally.rejected),
        digests=table_digests(table),
        steps=(tally,),
    )
    return bench.ledger.publish(commit, table, group_lengths(len(table)))


def _unusable(bench: Bench, table: pa.Table, unchecked: list[str], parts: PartColumns) -> dict[int, tuple[str, str]]:
    """Rows that cannot be packed -> (reason, detail): JSON that is none, local media that are not what they were."""
    found = {row: (BROKEN_JSON, name) for name in unchecked for row in broken_json(table.column(name))}
    tags = pc.binary_join_element_wise(parts.field("uri"), pc.fill_null(parts.field("tag"), ""), "\0")
    files = tags.dictionary_encode()
    for index, file in enumerate(files.dictionary.to_pylist()):
        uri, tag = file.split("\0")
        if is_local(uri) and not uri.startswith(STORE_SCHEME):
            try:
                bench.reader.handle(local_path(uri), tag or None)
            except SampleError as error:
                rows = parts.rows[files.indices.to_numpy() == index].tolist()
                found |= dict.fromkeys(rows, (error.reason, error.detail))
    return found


def group_lengths(rows: int) -> list[int]:
    """Lengths of the row groups of `rows` records."""
    return [min(_GROUP, rows - start) for start in range(0, rows, _GROUP)] or [0]


def layout_work(bench: Bench, job: Job, model: Any) -> Commit:
    """Which rows of which unit go into which shard: a table of slices, one row group a shard.

    Rows are ordered by (`order`, unit, row). A key that came before is a reject; those slices stand last, as shard -1.
    Memory: about 60 bytes a row, besides the keys of the units being read.
    """
    orders, sizes, units, rows, keys = [], [], [], [], []
    for index, (fp, live) in enumerate(job.inputs["units"]):
        table = bench.ledger.read(fp, ["key", "_order", "_bytes"]).slice(0, live)
        orders.append(table.column("_order").to_numpy())
        sizes.append(table.column("_bytes").to_numpy())
        units.append(np.full(live, index, dtype=np.int32))
        rows.append(np.arange(live, dtype=np.int32))
        keys.append(key_digests(table.column("key").to_pylist()))
    order, size, unit, row, key = (np.concatenate(arrays) for arrays in (orders, sizes, units, rows, keys))
    position = np.lexsort((row, unit, order))
    size, unit, row, key = size[position], unit[position], row[position], key[position]
    _, first = np.unique(key, return_index=True)
    fresh = np.zeros(len(key), dtype=bool)
    fresh[first] = True
    twice = [(-1, int(u), int(r), int(r) + 1) for u, r in zip(unit[~fresh], row[~fresh], strict=True)]
    size, unit, row = size[fresh], unit[fresh], row[fresh]
    slices: list[tuple[int, int, int, int]] = []
    shards: list[dict[str, int]] = []
    groups: list[int] = []
    for start, end in cut_shards(size, job.inputs["bytes"], job.inputs["samples"]):
        members, inverse = np.unique(unit[start:end], return_inverse=True)
        low = np.full(len(members), np.iinfo(np.int32).max, dtype=np.int32)
        high = np.zeros(len(members), dtype=np.int32)
        np.minimum.at(low, inverse, row[start:end])
        np.maximum.at(high, inverse, row[start:end] + 1)
        shard = len(shards)
        slices += [(shard, int(u), int(a), int(b)) for u, a, b in zip(members, low, high, strict=True)]
        groups.append(len(members))
        shards.append({"samples": int(end - start), "bytes": int(size[start:end].sum())})
    columns = list(zip(*(slices + twice), strict=True)) or [(), (), (), ()]
    names = ("shard", "unit", "start", "end")
    table = pa.table({n: pa.array(values, pa.int32()) for n, values in zip(names, columns, strict=True)})
    tally = StepTally(PACK, kept=-len(twice), rejected={DUPLICATE_KEY: len(twice)} if twice else {})
    facts = {"shards": shards, "duplicates": len(twice)}
    digests = table_digests(table, skip=())
    commit = Commit(job.fp, len(table), len(table), digests=digests, steps=(tally,), facts=facts)
    return bench.ledger.publish(commit, table, [*groups, len(twice)])


def cut_shards(sizes: np.ndarray[Any, Any], most_bytes: int, most_samples: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows that fit a shard: within both bounds, or a single row that alone is larger."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        end = int(np.searchsorted(ends, before + most_bytes, side="right"))
        end = max(start + 1, min(end, start + most_samples))
        yield start, end
        start = end


def _slices(bench: Bench, layout: str, group: int, units: list[str]) -> pa.Table:
    """The records of a shard in packing order (or of the duplicates)."""
    tables = []
    table = bench.ledger.read(layout, groups=[group])
    for unit, start, end in zip(*(table.column(n).to_pylist() for n in ("unit", "start", "end")), strict=True):
        first, last = start // _GROUP, (end - 1) // _GROUP
        records = bench.ledger.read(units[unit], groups=range(first, last + 1)).slice(
            start - first * _GROUP, end - start
        )
        records = records.replace_schema_metadata(None)
        records = records.append_column("_unit", pa.array(np.full(len(records), unit, dtype=np.int32)))
        tables.append(records.append_column("_at", pa.array(np.arange(start, end, dtype=np.int32))))
    found = pa.concat_tables(tables, promote_options="permissive")
    order = np.lexsort([found.column(n).to_numpy() for n in ("_at", "_unit", "_order")])
    return found.take(pa.array(order))


def shard_work(bench: Bench, job: Job, model: Any) -> Commit:
    """Write one tar and its index."""
    inputs = job.inputs
    out = Store(inputs["to"])
    units = inputs["units"]
    rows = _slices(bench, inputs["layout"], inputs["shard"], units)
    twice = inputs["duplicates"]
    if twice is not None:
        gone = bench.ledger.read(inputs["layout"], groups=[twice])
        pairs = set(zip(gone.column("unit").to_pylist(), gone.column("start").to_pylist(), strict=True))
        at = zip(rows.column("_unit").to_pylist(), rows.column("_at").to_pylist(), strict=True)
        rows = rows.filter(pa.array([pair not in pairs for pair in at]))
    keys = rows.column("key").combine_chunks()
    parts = PartColumns(rows.column("parts").combine_chunks())
    temporary = out.temporary()
    with ShardWriter(temporary) as tar:
        offsets, digests = write_members(bench, tar, keys, rows.column("_json").to_pylist(), parts)
    info = tar.close()
    name = f"{inputs['name']}.tar"
    out.put_new(f"{inputs['version']}/{SHARDS_DIR}/{name}", temporary)
    # The rows stand in their order; where they are mixed again, they get another one.
    index = rows.drop_columns([n for n in rows.column_names if n.startswith("_") or n == "order"])
    packed = parts.moved(f"{SHARDS_DIR}/{name}", offsets, digests)
    index = index.set_column(index.column_names.index("parts"), "parts", packed)
    index_digest = _write_index(out, f"{inputs['version']}/{INDEX_DIR}/{inputs['name']}.parquet", index)
    facts = {
        "shard": {
            "name": name,
            "samples": len(keys),
            "bytes": info.bytes,
            "digest": info.digest,
            "index_digest": index_digest,
        },
        "sources": _count(index, "source"),
        "licenses": _count(index, "license"),
    }
    commit = Commit(job.fp, len(keys), len(keys), facts=facts)
    return bench.ledger.publish(commit, pa.table({"samples": pa.array([len(keys)])}))


def _count(table: pa.Table, column: str) -> dict[str, int]:
    if column not in table.column_names:
        return {}
    return dict(sorted(Counter(v for v in table.column(column).to_pylist() if v is not None).items()))


def _write_index(out: Store, name: str, index: pa.Table) -> str:
    """Write an index file; its metadata say what each row group holds, so that nobody must read it to know."""
    rows = max(1, min(INDEX_GROUP, INDEX_GROUP_BYTES * len(index) // max(1, index.nbytes)))
    groups = [index.slice(start, rows) for start in range(0, len(index), rows)]
    facts = [{"rows": len(group), "bytes": group.nbytes, "digests": table_digests(group)} for group in groups]
    temporary = out.temporary()
    with pq.ParquetWriter(
        temporary, index.schema.with_metadata({GROUPS_KEY: canonical_json(facts)}), compression="zstd"
    ) as writer:
        for group in groups:
            writer.write_table(group.replace_schema_metadata(writer.schema.metadata))
    found = digest(temporary.read_bytes()).hex()
    out.put_new(name, temporary)
    return found


def rejects_work(bench: Bench, job: Job, model: Any) -> Commit:
    """Export the rows that one node rejected, with the columns that they had there."""
    inputs = job.inputs
    out = Store(inputs["to"])
    types = {"key": pa.string(), **inputs["types"], "parts": PARTS}
    schema = pa.schema(
        [
            ("flow", pa.string()),
            ("step", pa.string()),
            ("reason", pa.string()),
            ("detail", pa.string()),
            *types.items(),
        ]
    )
    temporary = out.temporary()
    total = 0
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for fp, reading in inputs["units"]:
            drops = bench.ledger.read(fp, ["_drop"]).column("_drop").combine_chunks()
            gone = np.flatnonzero(drops.is_valid().to_numpy(zero_copy_only=False))
            if reading is None:  # records of a pack hold everything themselves
                rows = bench.ledger.read(fp).take(pa.array(gone))
            else:
                rows = whole_rows(Frame(bench.ledger, reading), inputs["types"], gone)
            drops = drops.take(pa.array(gone))
            total += _write_rejects(
                writer, schema, _without_content(rows, drops, inputs["bare"]), drops, inputs["flow"]
            )
        if inputs["duplicates"] is not None:
            layout, group, units = inputs["duplicates"]
            rows = _slices(bench, layout, group, units)
            why = pa.array([{"step": PACK, "reason": DUPLICATE_KEY, "detail": ""}] * len(rows), DROP)
            total += _write_rejects(writer, schema, rows, why, inputs["flow"])
    found = digest(temporary.read_bytes()).hex()
    out.put_new(f"{inputs['version']}/{REJECTED_DIR}/{inputs['name']}.parquet", temporary)
    commit = Commit(job.fp, total, total, facts={"rejected": inputs["name"], "digest": found})
    return bench.ledger.publish(commit, pa.table({"rows": pa.array([total])}))


def _without_content(rows: pa.Table, drops: pa.StructArray, bare: list[list[str]]) -> pa.Table:
    """The rows, of which those with one of the (step, reason) pairs have lost everything but their keys."""
    step, reason, _ = drops.flatten()
    pairs = pc.binary_join_element_wise(step, reason, "\0")
    hidden = pc.is_in(pairs, pa.array(["\0".join(pair) for pair in bare], pa.string()))
    shown = pc.if_else(hidden, pa.scalar(None, pa.int64()), pa.array(np.arange(len(rows))))
    return rows.take(shown).set_column(rows.column_names.index("key"), "key", rows.column("key"))


def _write_rejects(writer: pq.ParquetWriter, schema: pa.Schema, rows: pa.Table, drops: pa.Array, flow: str) -> int:
    step, reason, detail = drops.flatten()
    named = {
        "flow": pa.array([flow] * len(rows), pa.string()),
        "step": step,
        "reason": reason,
        "detail": detail,
    }
    arrays = [named[f.name] if f.name in named else rows.column(f.name).combine_chunks() for f in schema]
    writer.write_table(pa.table(dict(zip(schema.names, arrays, strict=True)), schema=schema))
    return len(rows)
