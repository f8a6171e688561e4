"""The columns of a view of a data set, down to the fields of structs, and how a sample is described by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from schemas.errors import DataError, nearest
from schemas.sample import KINDS

DIMENSIONS = ("source", "task", "language", "modality")
MODALITY = "modality"
_FORMATS = "string_split(nullif(_formats, ''), ' ')"  # strings are cheaper to group by than lists
TEXTS = ("text", "caption", "messages")
_NUMBERS = {"tinyint", "smallint", "integer", "bigint", "hugeint", "float", "double", "decimal"}
_NUMBERS |= {f"u{name}" for name in ("tinyint", "smallint", "integer", "bigint")}


class Leaf(NamedTuple):
    """A column, or a field of a struct: its dotted path, the SQL that names it, its DuckDB type."""

    path: str
    sql: str
    type: str
    number: bool


def leaves(connection: Any, view: str) -> dict[str, Leaf]:
    """The leaf columns of a view by path, in their order."""
    found: dict[str, Leaf] = {}

    def descend(path: str, sql: str, kind: Any) -> None:
        if kind.id == "struct":
            for name, inner in kind.children:
                descend(f"{path}.{name}", f"{sql}.{quoted(name)}", inner)
        else:
            found[path] = Leaf(path, sql, str(kind), kind.id in _NUMBERS)

    relation = connection.sql(f"FROM {view}")
    for name, kind in zip(relation.columns, relation.types, strict=True):
        descend(name, quoted(name), kind)
    return found


def quoted(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A string as SQL."""
    return "'" + value.replace("'", "''") + "'"


def unknown(path: str, columns: Mapping[str, Leaf]) -> DataError:
    """An error about a column that is not there, which names the nearest one."""
    return DataError(f"there is no column {path!r} here", nearest(path, [*columns, MODALITY]))


def each_part(columns: Mapping[str, Leaf], what: str) -> str:
    """SQL: a list with something of each medium of a sample, such as `p.size`."""
    return f"list_transform(parts, lambda p: {what})" if "parts" in columns else "[]"


def has_text(columns: Iterable[str]) -> str:
    """SQL: whether a sample has text."""
    return " OR ".join(f"{name} IS NOT NULL" for name in TEXTS if name in columns) or "false"


def grouped(columns: Mapping[str, Leaf], paths: Sequence[str], figures: str, source: str, text: str) -> str:
    """SQL that computes figures of a source for each combination of the values at some paths: g0, g1, …

    A modality may come in several rows, one for each list of formats: whoever reads it adds up.
    text: SQL that says whether a sample has text. Raises DataError for an unknown column.
    """
    keys = [f"{_leaf(columns, path).sql} AS g{i}" for i, path in enumerate(paths) if not _derived(columns, path)]
    derived = [f"{_modality(_FORMATS, '_text')} AS g{i}" for i, path in enumerate(paths) if _derived(columns, path)]
    if not derived:
        return f"SELECT {', '.join([*keys, figures])} FROM {source} GROUP BY ALL"
    keys += [f"array_to_string({each_part(columns, 'p.format')}, ' ') AS _formats", f"{text} AS _text"]
    inner = f"SELECT {', '.join([*keys, figures])} FROM {source} GROUP BY ALL"
    return f"SELECT * EXCLUDE (_formats, _text), {', '.join(derived)} FROM ({inner})"


def _derived(columns: Mapping[str, Leaf], path: str) -> bool:
    return path == MODALITY and path not in columns


def _leaf(columns: Mapping[str, Leaf], path: str) -> Leaf:
    if path not in columns:
        raise unknown(path, columns)
    return columns[path]


def _modality(formats: str, has_text: str) -> str:
    """SQL: the kinds of the media in a list of formats, and `text` where there is some: `image+text`."""
    cases = "".join(
        f" WHEN f IN ({', '.join(literal(name) for name, of in KINDS.items() if of == kind)}) THEN {literal(kind)}"
        for kind in dict.fromkeys(KINDS.values())
    )
    kinds = f"list_transform(coalesce({formats}, []), lambda f: CASE{cases} ELSE f END)"
    both = f"list_concat({kinds}, CASE WHEN {has_text} THEN ['text'] ELSE [] END)"
    return f"coalesce(nullif(array_to_string(list_sort(list_distinct({both})), '+'), ''), 'none')"
