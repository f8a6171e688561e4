"""The leaf columns of a table, and how often each value of those with few values stands there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.inspect.dataset import query
from schemas.sample import KINDS

FEW = 24
"""So many values make a column one to choose from."""
_NO_TEXT = ("key", "parts", "messages", "shard")


class Leaf(NamedTuple):
    """A column or a field of a struct: its dotted path, how SQL names it, its type."""

    path: str
    sql: str
    type: pa.DataType


class Value(NamedTuple):
    """One value of a facet, how many rows have it, and the condition that picks them."""

    value: str
    rows: int
    condition: str


@dataclass(frozen=True)
class Facet:
    """A column of few values, with the most frequent first."""

    name: str
    values: list[Value]


def leaves(connection: Any, table: str) -> list[Leaf]:
    """The leaf columns of a table, fields of structs included."""
    return list(_leaves(query(connection, f"FROM {table} LIMIT 0").schema))


def _leaves(fields: Any, path: str = "", sql: str = "") -> Iterator[Leaf]:
    for field in fields:
        inner = Leaf(f"{path}{field.name}", f"{sql}{_identifier(field.name)}", field.type)
        if pa.types.is_struct(field.type):
            yield from _leaves(field.type, f"{inner.path}.", f"{inner.sql}.")
        else:
            yield inner


def _identifier(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def facets(connection: Any, table: str) -> list[Facet]:
    """What people pick rows by: kinds of media, and every text or boolean with few values."""
    found = leaves(connection, table)
    made = [_media(connection, table)] if any(leaf.path == "parts" for leaf in found) else []
    choices = [leaf for leaf in found if _is_choice(leaf)]
    if choices:
        counts = ", ".join(f"approx_count_distinct({leaf.sql})" for leaf in choices)
        # The estimate errs by some percent, and spares an exact count of what are millions of texts.
        [estimates] = query(connection, f"SELECT [{counts}] AS n FROM {table}").column("n").to_pylist()
        few = [leaf for leaf, estimate in zip(choices, estimates, strict=True) if 0 < estimate <= 2 * FEW]
        made += [_facet(connection, table, leaf.path, leaf.sql) for leaf in few]
    return [facet for facet in made if _repeats(facet)]


def _repeats(facet: Facet) -> bool:
    """Whether the values are few, and not simply all different."""
    return 0 < len(facet.values) <= FEW and (len(facet.values) == 1 or facet.values[0].rows > 1)


def _is_choice(leaf: Leaf) -> bool:
    text = pa.types.is_string(leaf.type) or pa.types.is_large_string(leaf.type)
    return leaf.path not in _NO_TEXT and (text or pa.types.is_boolean(leaf.type))


def _facet(connection: Any, table: str, name: str, sql: str) -> Facet:
    counted = f"SELECT {sql}::VARCHAR AS value, count(*) AS n FROM {table} WHERE {sql}::VARCHAR <> ''"
    rows = query(connection, f"{counted} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {FEW + 1}").to_pylist()
    return Facet(name, [Value(row["value"], row["n"], f"{sql} = {literal(row['value'])}") for row in rows])


def _media(connection: Any, table: str) -> Facet:
    """Rows by the kinds of media that they have."""
    formats = "list_sort(list_distinct([p.format FOR p IN coalesce(parts, [])]))"
    counted = f"SELECT {formats} AS formats, count(*) AS n FROM {table} GROUP BY 1 ORDER BY 1"
    rows: dict[str, int] = {}
    conditions: dict[str, list[str]] = {}
    for row in query(connection, counted).to_pylist():
        held = " + ".join(sorted({KINDS.get(format, format) for format in row["formats"]})) or "none"
        rows[held] = rows.get(held, 0) + row["n"]
        conditions.setdefault(held, []).append(f"[{', '.join(map(literal, row['formats']))}]::VARCHAR[]")
    values = [Value(held, n, f"{formats} IN ({', '.join(conditions[held])})") for held, n in rows.items()]
    return Facet("media", sorted(values, key=lambda value: (-value.rows, value.value)))


def literal(value: str) -> str:
    """A text as SQL writes it."""
    escaped = value.replace("'", "''")
    return f"'{escaped}'"
