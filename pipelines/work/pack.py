"""Work of a pack: rows become records, a layout gives every record its shard, and each shard is one unit.

1. pack_rows: each unit's rows as index rows and rendered JSON, sorted by packing order.
2. layout: one merge over (order, bytes): which slice of which unit goes into which shard; no gaps in numbers.
3. shard: one tar and its index; media is copied by ranges, read in source order, written at known offsets.
4. rejects: the view of what a node rejected, exported.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.frame import Frame
from pipelines.ledger import ALL_LIVE, Commit, StepTally, table_digests
from pipelines.work.bench import Bench, Job
from pipelines.work.combine import whole_rows
from schemas.columns import DROP, PARTS
from schemas.digest import digest
from schemas.errors import DataError, SampleError
from schemas.manifest import INDEX_DIR, REJECTED_DIR, SHARDS_DIR
from schemas.sample import Part, member_extension
from schemas.shards.assembler import ShardAssembler
from schemas.shards.header import entry_size
from schemas.shards.source import Range
from schemas.store import STORE_SCHEME, Store, is_local, local_path

DUPLICATE_KEY = "duplicate_key"
PACK = "pack"
_MEMBERS = 256  # members of a tar that are written at once
_GROUP = 512  # rows in a row group of records: what a shard reads at least of each unit
_JSON_TEXT = ("messages", "extra")  # columns that hold JSON; records hold what it says
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def pack_rows_work(bench: Bench, job: Job, model: Any) -> Commit:
    """Live rows with all columns and packed parts, their record as JSON and their bytes in a tar."""
    assert job.reading is not None
    frame = Frame(bench.ledger, job.reading)
    types, record = job.inputs["types"], job.inputs["record"]
    table = whole_rows(frame, types, np.flatnonzero(frame.live))
    parts = [[Part(**part) for part in row or ()] for row in table.column("parts").to_pylist()]
    keys = table.column("key").to_pylist()
    rendered = list(records(table, record, parts))
    drops: list[dict[str, str] | None] = []
    tally = StepTally(PACK, read=len(keys))
    for row in parts:
        try:
            for part in row:
                check_medium(bench, part)
            drops.append(None)
        except SampleError as error:
            drops.append({"step": PACK, "reason": error.reason, "detail": error.detail})
            tally.rejected[error.reason] = tally.rejected.get(error.reason, 0) + 1
    tally.kept = len(keys) - sum(tally.rejected.values())
    sizes = [
        entry_size(f"{key}.json", len(data))
        + sum(entry_size(f"{key}.{member_extension(p.name, p.format)}", p.size) for p in row)
        for key, data, row in zip(keys, rendered, parts, strict=True)
    ]
    ordered = table.column("order").combine_chunks() if "order" in types else pa.nulls(len(table), pa.int64())
    table = table.append_column("_order", ordered.fill_null(0))
    table = table.append_column("_bytes", pa.array(sizes, pa.int64()))
    table = table.append_column("_json", pa.array(rendered, pa.binary()))
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


def group_lengths(rows: int) -> list[int]:
    """Lengths of the row groups of `rows` records."""
    return [min(_GROUP, rows - start) for start in range(0, rows, _GROUP)] or [0]


def check_medium(bench: Bench, part: Part) -> None:
    """A local medium is still what was indexed. Raises SampleError."""
    if is_local(part.uri) and not part.uri.startswith(STORE_SCHEME):
        bench.reader.handle(local_path(part.uri), part.tag)


def records(table: pa.Table, paths: list[str] | None, parts: list[list[Part]]) -> Iterator[bytes]:
    """The JSON of each row: the chosen columns (dotted paths; None for all), nulls left out, views of parts named."""
    names = [n for n in table.column_names if n not in ("key", "parts", "order")] if paths is None else paths
    tops = list(dict.fromkeys(name.split(".")[0] for name in names))
    whole = {top for top in tops if top in names}
    chosen = {top: {n[len(top) + 1 :] for n in names if n.startswith(top + ".")} for top in tops if top not in whole}
    columns = [(top, table.column(top).to_pylist(), _as_it_is(table.schema.field(top).type)) for top in tops]
    for i, key in enumerate(table.column("key").to_pylist()):
        record: dict[str, Any] = {"key": key}
        for top, values, as_it_is in columns:
            value = values[i]
            if value is None:
                continue
            if top in chosen:
                value = {name: inner for name, inner in value.items() if name in chosen[top]}
            if top in _JSON_TEXT:
                value = json.loads(value)
            elif not as_it_is:
                value = plain(value)
            if value is not None:
                record[top] = value
        views = {part.name: part.view for part in parts[i] if part.view is not None}
        if views:
            record["views"] = views
        yield _encode(record).encode("utf-8", "replace")


def _as_it_is(kind: pa.DataType) -> bool:
    """Whether JSON can hold every value of a type."""
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def plain(value: Any) -> Any:
    """A value that JSON can hold: no nulls inside objects, no NaN, no bytes."""
    if isinstance(value, dict):
        kept = {name: plain(inner) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner is not None} or None
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return None if isinstance(value, bytes) else str(value)


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
        keys.append(
            np.frombuffer(b"".join(digest(key.encode()) for key in table.column("key").to_pylist()), dtype="V16")
        )
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
    keys = rows.column("key").to_pylist()
    parts = [[Part(**part) for part in row or ()] for row in rows.column("parts").to_pylist()]
    names: list[str] = []
    sizes: list[int] = []
    data: list[tuple[str, int, Any, Part | None]] = []  # where it is read from, so that reads go in source order
    for key, record, media in zip(keys, rows.column("_json").to_pylist(), parts, strict=True):
        data.append(("", len(data), record, None))
        names.append(f"{key}.json")
        sizes.append(len(record))
        for part in media:
            data.append((part.uri, part.offset, None, part))
            names.append(f"{key}.{member_extension(part.name, part.format)}")
            sizes.append(part.size)
    order = sorted(range(len(data)), key=lambda i: data[i][:2])
    temporary = out.temporary()
    tar = ShardAssembler(temporary, names, sizes)
    try:
        offsets, digests = [0] * len(data), [b""] * len(data)
        for start in range(0, len(order), _MEMBERS):
            places = order[start : start + _MEMBERS]
            content = [_content(bench, *data[i][2:]) for i in places]
            known = [_known(data[i][3]) for i in places]
            put = tar.put(places, content, known)
            for i, offset, found in zip(places, put.offsets, put.digests, strict=True):
                offsets[i], digests[i] = offset, found
        info = tar.close()
    except BaseException:
        tar.abort()
        raise
    name = f"{inputs['name']}.tar"
    out.put_new(f"{inputs['version']}/{SHARDS_DIR}/{name}", temporary)
    packed: list[list[dict[str, Any]]] = []
    at_member = 0
    for media in parts:
        row = []
        for part in media:
            at_member += 1
            uri = f"{SHARDS_DIR}/{name}"
            moved = part._replace(uri=uri, offset=offsets[at_member], tag=None, digest=digests[at_member])
            row.append(moved._asdict())
        at_member += 1
        packed.append(row)
    index = rows.drop_columns([n for n in rows.column_names if n.startswith("_")])
    index = index.set_column(index.column_names.index("parts"), "parts", pa.array(packed, PARTS))
    index_digest = _write_parquet(out, f"{inputs['version']}/{INDEX_DIR}/{inputs['name']}.parquet", index)
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
    return bench.ledger.publish(commit, pa.table({"key": index.column("key")}))


def _content(bench: Bench, record: bytes | None, part: Part | None) -> bytes | Range:
    """A member of the tar: a record's bytes, or the range where a medium is."""
    if part is None:
        assert record is not None
        return record
    uri = bench.store.path(part.uri[len(STORE_SCHEME) :]) if part.uri.startswith(STORE_SCHEME) else part.uri
    try:
        if not is_local(uri):
            return bench.reader(part)
        bench.reader.handle(local_path(uri), part.tag)
        return Range(local_path(uri), part.offset, part.size)
    except SampleError as error:
        message = f"{part.uri} is not what it was when it was indexed ({error.reason})"
        raise DataError(message, "restore it, or touch the file that lists it: then it is ingested anew") from None


def _known(part: Part | None) -> bytes | None:
    return None if part is None else part.digest


def _count(table: pa.Table, column: str) -> dict[str, int]:
    if column not in table.column_names:
        return {}
    return dict(sorted(Counter(v for v in table.column(column).to_pylist() if v is not None).items()))


def _write_parquet(out: Store, name: str, table: pa.Table) -> str:
    temporary = out.temporary()
    pq.write_table(table, temporary, compression="zstd", row_group_size=10_000)
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
            total += _write_rejects(writer, schema, rows, drops.take(pa.array(gone)), inputs["flow"])
        if inputs["duplicates"] is not None:
            layout, group, units = inputs["duplicates"]
            rows = _slices(bench, layout, group, units)
            why = pa.array([{"step": PACK, "reason": DUPLICATE_KEY, "detail": ""}] * len(rows), DROP)
            total += _write_rejects(writer, schema, rows, why, inputs["flow"])
    found = digest(temporary.read_bytes()).hex()
    out.put_new(f"{inputs['version']}/{REJECTED_DIR}/{inputs['name']}.parquet", temporary)
    commit = Commit(job.fp, total, total, facts={"rejected": inputs["name"], "digest": found})
    return bench.ledger.publish(commit, pa.table({"rows": pa.array([total])}))


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
