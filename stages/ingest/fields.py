"""How the fields of JSON objects and table rows become columns: declared, or inferred from the first rows.

A field of a canonical name takes the canonical type. What is not a column goes into `extra`, so nothing is lost.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import pyarrow as pa
from pydantic import AfterValidator

from schemas.columns import CANONICAL, RESERVED, type_names, type_of
from schemas.errors import nearest

_INT64 = 1 << 63


def _check(columns: dict[str, str]) -> dict[str, str]:
    for name, kind in columns.items():
        if kind not in type_names():
            raise ValueError(f"{kind!r} is no column type; {nearest(kind, type_names())}")
        if name in RESERVED or "." in name or not name:
            raise ValueError(f"a column cannot be called {name!r}; leave it out and it goes into `extra`")
        canonical = CANONICAL.get(name)
        if canonical and not _fits(kind, canonical):
            raise ValueError(f"the column {name!r} has the type {canonical} everywhere, so it cannot be {kind}")
    return columns


ColumnTypes = Annotated[dict[str, str], AfterValidator(_check)]
"""Column name -> short type name of schemas.columns."""


def _fits(kind: str, canonical: pa.DataType) -> bool:
    if pa.types.is_string(canonical):
        return kind in ("string", "json")
    return kind == "int" or (kind == "float" and pa.types.is_floating(canonical))


class Fields:
    """The columns that rows of an input become."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        """kinds: column name -> short type name."""
        self.kinds = dict(kinds)
        self._known = kinds.keys() - {"extra"}
        self._ints = [name for name, kind in kinds.items() if kind in ("int", "ints")]
        self._json = [name for name, kind in kinds.items() if kind == "json" and name != "extra"]

    def types(self) -> dict[str, pa.DataType]:
        """The Arrow types; `extra` is always one of them."""
        types = {name: CANONICAL.get(name) or type_of(kind) for name, kind in self.kinds.items()}
        return {**types, "extra": CANONICAL["extra"]}

    def columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """The column values of a row. The dict that is given may be the one that comes back."""
        for name in self._ints:
            if type(row.get(name)) in (float, list):
                row[name] = _whole(row[name])
        if row.keys() <= self._known:
            for name in self._json:
                value = row.get(name)
                if value is not None:
                    row[name] = json_text(value)
            return row
        columns, extra = {}, extra_of(row.get("extra"))
        for name, value in row.items():
            if name in self._known:
                columns[name] = json_text(value) if name in self._json and value is not None else value
            elif value is not None and name != "extra":
                extra[name] = value
        if extra:
            columns["extra"] = json_text(extra)
        return columns


def _whole(value: Any) -> Any:
    """Floats as whole numbers, or as text: Arrow cuts 2.5 to 2 without a word, but for text it rejects the row."""
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else str(value)
    return value


def extra_of(value: Any) -> dict[str, Any]:
    """What a field called `extra` brings: our own data sets have it as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    if value is None:
        return {}
    return dict(value) if isinstance(value, dict) else {"extra": value}


def json_text(value: Any) -> str:
    """Compact JSON with sorted keys; NaN and infinities, which JSON has not, become null."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json_text(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_finite(child) for child in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def kind_of(value: Any) -> str | None:
    """The short type name of a JSON value; None for null."""
    if value is None:
        return None
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, list) and value:
        kinds = {kind_of(item) for item in value} - {None}
        if kinds <= {"int", "float"} and kinds:
            return "floats" if "float" in kinds else "ints"
        return "strings" if kinds == {"string"} else "json"
    return "list" if value == [] else "json"


_NUMBERS = {"int": "float", "ints": "floats"}


def _common(counts: Mapping[str, int], share: float) -> str:
    """The type of more than `share` of the values; ints count as floats where there are floats, [] as any list."""
    merged = Counter(counts)
    for narrow, wide in _NUMBERS.items():
        if merged[wide]:
            merged[wide] += merged.pop(narrow, 0)
    empty = merged.pop("list", 0)
    for kind in ("strings", "ints", "floats", "json"):
        if merged[kind]:
            merged[kind] += empty
    [(kind, count)] = merged.most_common(1) or [("json", empty)]
    return kind if count > share * sum(counts.values()) else "json"


def _canonical(kind: str, counts: Mapping[str, int], canonical: pa.DataType) -> str | None:
    """The type for a column of a canonical name; None where the values are of another kind."""
    total = sum(counts.values())
    if pa.types.is_string(canonical):
        return "string" if counts.get("string", 0) * 2 >= total else "json"
    if kind == "float" and pa.types.is_integer(canonical) and counts.get("int", 0) * 2 > total:
        return "int"
    return kind if _fits(kind, canonical) else None


def infer(rows: Iterable[Mapping[str, Any]], only: Iterable[str] | None = None, share: float = 0.5) -> dict[str, str]:
    """Column types from example rows: the type of more than `share` of a field's values, so that an odd row changes
    nothing for the others (the engine rejects it as wrong_type). Int and float make float. Objects, and mixtures
    without such a type, become JSON text. A canonical name keeps its type.

    only: infer these names and leave the others to `extra`. Fields that are null in all examples, and names that
    cannot be columns, are left to `extra` too, and so is a canonical name whose values are of another type.
    """
    found: dict[str, Counter[str]] = {}
    wanted = None if only is None else set(only)
    for row in rows:
        for name, value in row.items():
            kind = kind_of(value)
            if kind is not None and (wanted is None or name in wanted):
                found.setdefault(name, Counter())[kind] += 1
    kinds = {}
    for name, counts in found.items():
        if name in (*RESERVED, "extra", "") or "." in name:
            continue
        common, canonical = _common(counts, share), CANONICAL.get(name)
        chosen = common if canonical is None else _canonical(common, counts, canonical)
        if chosen is not None:
            kinds[name] = chosen
    return kinds
