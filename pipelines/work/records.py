"""Records: the JSON of samples, rendered a column at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import cache
from json.encoder import encode_basestring
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

JSON_TEXT = ("messages", "extra")
"""Columns that hold JSON; records hold what it says."""
NOT_IN_RECORDS = ("key", "parts", "order", "lineage")
"""Columns of the index that are no part of a sample for those who train on it."""

Texts: TypeAlias = list[str | None]
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def records(table: pa.Table, paths: list[str] | None, views: dict[int, dict[str, str]]) -> list[bytes]:
    """The JSON of each row: the chosen columns (dotted paths; None for all), without nulls.

    views: row -> part -> the span that is meant, for rows that have any.
    """
    names = [name for name in table.column_names if name not in NOT_IN_RECORDS] if paths is None else paths
    texts = ['{"key":' + encode_basestring(key) for key in table.column("key").to_pylist()]
    for top in dict.fromkeys(name.split(".")[0] for name in names):
        array = table.column(top).combine_chunks()
        if top not in names:
            array = _fields(array, [name[len(top) + 1 :] for name in names if name.startswith(top + ".")])
        found = array.to_pylist() if top in JSON_TEXT else _texts(array)
        start = f',"{top}":'
        texts = [
            text if value is None or value == "null" else text + start + value
            for text, value in zip(texts, found, strict=True)
        ]
    for row, spans in views.items():
        texts[row] += ',"views":' + _encode(spans)
    return [(text + "}").encode("utf-8", "replace") for text in texts]


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


def _texts(array: pa.Array) -> Texts:
    """The JSON text of each value; None where there is nothing to say."""
    kind = array.type
    if pa.types.is_struct(kind):
        return _objects([kind.field(i).name for i in range(kind.num_fields)], map(_texts, array.flatten()), len(array))
    values = array.to_pylist()
    if pa.types.is_string(kind):
        return [None if value is None else encode_basestring(value) for value in values]
    if pa.types.is_integer(kind):
        return [None if value is None else str(value) for value in values]
    if pa.types.is_floating(kind):
        return [None if value is None or not math.isfinite(value) else repr(value) for value in values]
    if pa.types.is_boolean(kind):
        return [None if value is None else "true" if value else "false" for value in values]
    return [None if plain(value) is None else _encode(plain(value)) for value in values]


def _objects(names: list[str], columns: Iterable[Texts], rows: int) -> Texts:
    texts = [""] * rows
    for name, column in zip(names, columns, strict=True):
        start = f"{encode_basestring(name)}:"
        texts = [
            text if value is None else f"{text},{start}{value}" if text else start + value
            for text, value in zip(texts, column, strict=True)
        ]
    return ["{" + text + "}" if text else None for text in texts]


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
