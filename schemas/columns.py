"""Columns: the canonical ones, what a stage reads and writes, and dotted paths into structs.

A column that many stages understand has a canonical name and type and stands at the top level. Everything else
that a step writes is a field of one struct under the step's own name (`heard.text`, `loss.mean`). Schemas only
grow; readers fill null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

PART = pa.struct(
    [
        ("name", pa.string()),
        ("format", pa.string()),
        ("uri", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("view", pa.string()),
        ("tag", pa.string()),
        ("digest", pa.binary(16)),
    ]
)
PARTS = pa.list_(PART)
DROP = pa.struct([("step", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
LINEAGE = pa.list_(pa.struct([("step", pa.string()), ("key", pa.string()), ("dataset", pa.string())]))
"""The ancestors of a row, oldest first: the key that it had before a step (null where it was read from a data set), and
the published version (`data set/version`) where that stood; null for rows that only the store had."""

CANONICAL: dict[str, pa.DataType] = {
    "messages": pa.string(),  # canonical JSON of schemas.message.Conversation
    "text": pa.string(),
    "caption": pa.string(),
    "source": pa.string(),
    "license": pa.string(),
    "origin": pa.string(),  # URL of the sample at its publisher
    "task": pa.string(),
    "language": pa.string(),  # ISO 639-1
    "duration": pa.float64(),  # seconds
    "sample_rate": pa.int32(),  # Hz
    "channels": pa.int32(),
    "width": pa.int32(),  # pixels
    "height": pa.int32(),
    "lineage": LINEAGE,
    "order": pa.int64(),  # packing order where a step set one; ties by unit and row
    "extra": pa.string(),  # JSON of input fields that have no column
}
RESERVED = ("key", "parts", "_drop", "_row")

Types: TypeAlias = Mapping[str, pa.DataType]
ANY = pa.null()  # a stage that reads any type declares this


@dataclass(frozen=True)
class Columns:
    """What a stage reads, or what it writes.

    fields: column name -> Arrow type. For reads the names are dotted paths (`split.head`) and `ANY` takes every
        type. For writes a canonical name is written for everybody, any other under the step's own name.
    parts: names of media parts.
    shared: writes the fields at the top level under their own names, canonical or not (a rename).
    own: writes all fields under the step's name, canonical or not (`heard.text` beside the sample's own text).
    """

    fields: Types = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    shared: bool = False
    own: bool = False


def has_path(types: Types, path: str) -> bool:
    """Whether the dotted path leads to a column or a field of a struct."""
    return path_type(types, path) is not None


def path_type(types: Types, path: str) -> pa.DataType | None:
    """The type at a dotted path, or None."""
    head, *rest = path.split(".")
    kind = types.get(head)
    for name in rest:
        if kind is None or not pa.types.is_struct(kind):
            return None
        index = kind.get_field_index(name)
        kind = kind.field(index).type if index >= 0 else None
    return kind


def leaves(types: Types) -> list[str]:
    """Dotted paths of the units of reading: top-level columns, and the fields of structs one level down."""
    paths = []
    for name, kind in types.items():
        if pa.types.is_struct(kind):
            paths += [f"{name}.{kind.field(i).name}" for i in range(kind.num_fields)]
        else:
            paths.append(name)
    return paths


def leaves_under(paths: Iterable[str], wanted: str) -> list[str]:
    """Which of the leaf paths a dotted path touches: itself, its fields, or the leaf that holds it."""
    return [p for p in paths if p == wanted or p.startswith(wanted + ".") or wanted.startswith(p + ".")]


def column(table: pa.Table, path: str) -> pa.Array:
    """The array at a dotted path of a table; nulls of a struct are pushed down to its fields."""
    head, *rest = path.split(".")
    array = table.column(head).combine_chunks()
    for name in rest:
        array = pc.struct_field(array, name)
    return array


def merge_types(first: Types, second: Types, where: str) -> dict[str, pa.DataType]:
    """Types of a union of two data sets; a column present in both must have one type (structs grow).

    Raises TypeError naming the column when they cannot be reconciled.
    """
    merged = dict(first)
    for name, kind in second.items():
        old = merged.get(name)
        if old is None or pa.types.is_null(old):
            merged[name] = kind
        elif old != kind and not pa.types.is_null(kind):
            if not (pa.types.is_struct(old) and pa.types.is_struct(kind)):
                raise TypeError(f"{where}: column {name} is {old} in one input and {kind} in another")
            fields = merge_types(dict(_fields(old)), dict(_fields(kind)), f"{where}: {name}")
            merged[name] = pa.struct(list(fields.items()))
    return merged


def _fields(kind: pa.StructType) -> list[tuple[str, pa.DataType]]:
    return [(kind.field(i).name, kind.field(i).type) for i in range(kind.num_fields)]


_TYPE_NAMES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "strings": pa.list_(pa.string()),
    "ints": pa.list_(pa.int64()),
    "floats": pa.list_(pa.float64()),
    "json": pa.string(),
}


def type_of(name: str) -> pa.DataType:
    """The Arrow type that a recipe's short name means. Raises KeyError."""
    return _TYPE_NAMES[name]


def type_names() -> tuple[str, ...]:
    """The short type names that recipes may use."""
    return tuple(_TYPE_NAMES)
