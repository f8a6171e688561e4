"""Records: the JSON of samples, rendered a column at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

JSON_TEXT = ("messages", "extra")
"""Columns that hold JSON; records hold what it says."""
NOT_IN_RECORDS = ("key", "parts", "order", "lineage")
"""Columns of the index that are no part of a sample for those who train on it."""

_SPECIAL = r'["\\\x00-\x1f]'
"""What JSON must escape in a string."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def records(table: pa.Table, paths: list[str] | None, views: dict[int, dict[str, str]]) -> pa.Array:
    """The JSON of each row, as a binary array: the chosen columns (dotted paths; None for all), without nulls.

    views: row -> part -> the span that is meant, for rows that have any.
    """
    names = [name for name in table.column_names if name not in NOT_IN_RECORDS] if paths is None else paths
    fields = {"key": _texts(table.column("key").combine_chunks())}
    for top in dict.fromkeys(name.split(".")[0] for name in names):
        array = table.column(top).combine_chunks()
        if top not in names:
            array = _fields(array, [name[len(top) + 1 :] for name in names if name.startswith(top + ".")])
        if top in JSON_TEXT:
            fields[top] = pc.if_else(pc.equal(array, "null"), pa.scalar(None, pa.string()), array)
        else:
            fields[top] = _texts(array)
    if views:
        fields["views"] = pa.array([_encode(views[row]) if row in views else None for row in range(len(table))])
    return _objects(fields).cast(pa.binary())


def broken_json(texts: pa.ChunkedArray) -> list[int]:
    """Rows whose text is no JSON; null is none, and fine."""
    if texts.null_count == len(texts):
        return []
    connection = _duckdb()
    connection.register("texts", pa.table({"text": texts}))
    valid = connection.sql("SELECT coalesce(json_valid(text), true) AS ok FROM texts").to_arrow_table()
    connection.unregister("texts")
    return np.flatnonzero(~valid.column("ok").to_numpy()).tolist()


@cache
def _duckdb() -> Any:
    """One for the process: a new one takes 20 ms."""
    import duckdb

    return duckdb.connect(config={"threads": 1})


def _fields(array: pa.StructArray, wanted: list[str]) -> pa.StructArray:
    """Some fields (dotted paths) of a struct column."""
    kept = {}
    for field, child in zip(array.type, array.flatten(), strict=True):
        deeper = [path[len(field.name) + 1 :] for path in wanted if path.startswith(field.name + ".")]
        if field.name in wanted:
            kept[field.name] = child
        elif deeper:
            kept[field.name] = _fields(child, deeper)
    return pa.StructArray.from_arrays(list(kept.values()), list(kept))


def _texts(array: pa.Array) -> pa.Array:
    """The JSON text of each value; null where there is nothing to say."""
    kind = array.type
    if array.null_count == len(array):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return _objects(dict(zip(names, map(_texts, array.flatten()), strict=True)))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.string())
    if pa.types.is_string(kind) and not pc.any(pc.match_substring_regex(array, _SPECIAL)).as_py():
        return pc.binary_join_element_wise('"', array, '"', "")
    values = array.to_pylist()
    if pa.types.is_string(kind):
        texts = [None if value is None else encode_basestring(value) for value in values]
    elif pa.types.is_floating(kind):
        texts = [None if value is None or not math.isfinite(value) else repr(value) for value in values]
    else:
        texts = [None if plain(value) is None else _encode(plain(value)) for value in values]
    return pa.array(texts, pa.string())


def _objects(fields: Mapping[str, pa.Array]) -> pa.Array:
    """The JSON objects with these fields; null where all are."""
    said = [
        pc.binary_join_element_wise(f",{encode_basestring(name)}:", texts, "")
        for name, texts in fields.items()
        if texts.null_count < len(texts)
    ]
    if not said:
        return pa.nulls(len(next(iter(fields.values()))), pa.string())
    # Not `skip` with commas between: pyarrow 26 then leaves out rows in which all are null.
    inner = pc.binary_join_element_wise(*said, "", null_handling="replace", null_replacement="")
    objects = pc.binary_join_element_wise("{", pc.binary_replace_slice(inner, 0, 1, ""), "}", "")
    return pc.if_else(pc.equal(objects, "{}"), pa.scalar(None, pa.string()), objects)


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
