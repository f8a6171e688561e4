"""Rows in the index of a published data set, read as if they were a commit of the store."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.columns import PART
from schemas.lineage import append_ancestor
from schemas.manifest import INDEX_DIR
from schemas.store import Store
from stages.base import Group

REFERENCE = "@"
"""How the fingerprint of such a commit begins; JSON follows: [[URI of the file, row group, rows], ...]."""


def reference(groups: list[tuple[Group, int]]) -> str:
    """The fingerprint of a commit that stands for row groups of index files, and how many of their rows are used."""
    return REFERENCE + json.dumps([[group.uri, group.group, rows] for group, rows in groups])


def dataset_of(uri: str) -> str:
    """`name/version` of the data set that an index file belongs to."""
    return "/".join(uri.split("/")[-4:-2])


def read_index(name: str, columns: list[str] | None) -> pa.Table:
    """Columns (leaf paths) of rows in the index of a published data set, as `Ledger.read` gives them.

    Parts get full paths, and `lineage` says where the rows are from.
    """
    groups = json.loads(name.removeprefix(REFERENCE))
    tables = [_read_group(uri, group, rows, columns) for uri, group, rows in groups]
    return pa.concat_tables(tables, promote_options="permissive")


def _read_group(uri: str, group: int, rows: int, columns: list[str] | None) -> pa.Table:
    root, _, name = uri.rpartition(f"/{INDEX_DIR}/")
    with Store(root).open(f"{INDEX_DIR}/{name}") as file:
        parquet = pq.ParquetFile(file)
        wanted = columns
        if columns is not None and "lineage" in columns:
            wanted = [*columns, "key"] if "key" not in columns else columns
            wanted = [leaf for leaf in wanted if leaf != "lineage" or "lineage" in parquet.schema_arrow.names]
        table = parquet.read_row_group(group, columns=wanted, use_threads=False).slice(0, rows)
    if "parts" in table.column_names:
        at = table.column_names.index("parts")
        table = table.set_column(at, "parts", _below(table.column("parts").combine_chunks(), root))
    if columns is None or "lineage" in columns:
        lineage = _lineage(table, dataset_of(uri))
        table = table.drop_columns([n for n in ("lineage",) if n in table.column_names])
        table = table.append_column("lineage", lineage)
        table = table if columns is None or "key" in columns else table.drop_columns(["key"])
    return table.replace_schema_metadata(None)


def _below(parts: pa.ListArray, root: str) -> pa.Array:
    """Parts whose uris were relative to a version."""
    flat = parts.flatten()
    fields = dict(zip((field.name for field in PART), flat.flatten(), strict=True))
    fields["uri"] = pc.binary_join_element_wise(pa.scalar(root), fields["uri"], "/")
    lengths = pc.fill_null(pc.list_value_length(parts), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(list(fields.values()), fields=list(PART)))


def _lineage(table: pa.Table, dataset: str) -> pa.Array:
    """The lineage of published rows, and that they come from that data set."""
    count = len(table)
    entry = {"step": pa.nulls(count, pa.string()), "key": table.column("key").combine_chunks()}
    entry["dataset"] = pa.array([dataset]).take(pa.array(np.zeros(count, np.int32)))
    return append_ancestor(table.column("lineage").combine_chunks() if "lineage" in table.column_names else None, entry)
