"""A DuckDB expression over columns: what it refers to, whether it may be used, what it comes to.

An expression decides about a row from that row alone and gives the same answer every time. So subqueries,
aggregates, windows and functions such as `random()` or `now()` are refused, before anything runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import pyarrow as pa

from schemas.columns import Types, leaves
from schemas.errors import nearest

_ROWS = "omnicurate_rows"
_ONE = "expected one SQL expression, such as duration > 1.5 AND text <> ''"
# Functions of today's date or of the session that DuckDB does not mark as such.
_SESSION = re.compile(r"current_.*|age|version|getenv")


@cache
def _database() -> Any:
    import duckdb

    # One thread: a float sum inside a row (list_sum) must not depend on how many there are. No files, no network.
    settings = {
        "threads": 1,
        "enable_external_access": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    return duckdb.connect(config=settings)  # type: ignore[arg-type]


@cache
def _kinds_of_function() -> dict[str, set[str]]:
    rows = _database().cursor().execute("SELECT function_name, function_type, stability FROM duckdb_functions()")
    found: dict[str, set[str]] = {}
    for name, kind, stability in rows.fetchall():
        marks = {str(kind)} | ({"volatile"} if stability not in (None, "CONSISTENT") else set())
        found.setdefault(name, set()).update(marks)
    return found


def parse(sql: str) -> dict[str, Any]:
    """The tree of an expression. Raises ValueError where it is not exactly one expression."""
    [tree], frame = _parse_query(sql)
    _, plain = _parse_query("true")
    if frame != plain:
        raise ValueError(_ONE)
    if tree.get("class") == "FUNCTION" and tree.get("function_name") == "row" and not tree["arguments"]:
        raise ValueError("the expression is empty")
    return tree


def _parse_query(sql: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The one selected expression, and all else that a query can have."""
    # On lines of its own, so that a comment at the end of the expression ends there.
    query = f"SELECT (\n{sql}\n)"
    [text] = _database().cursor().execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    parsed = json.loads(text)
    if parsed["error"]:
        raise ValueError(f"not an SQL expression: {parsed['error_message'].splitlines()[0]}")
    nodes = [statement["node"] for statement in parsed["statements"]]
    if len(nodes) != 1 or len(nodes[0].get("select_list", ())) != 1:
        raise ValueError(_ONE)
    return nodes[0].pop("select_list"), nodes[0]


def references(sql: str) -> list[tuple[str, ...]]:
    """The columns that an expression names, as tuples of names. Raises ValueError for what may not be used."""
    found: dict[tuple[str, ...], None] = {}
    variables: set[str] = set()
    for node in _walk(parse(sql)):
        match node.get("class"):
            case "COLUMN_REF":
                found[tuple(node["column_names"])] = None
            case "LAMBDA":
                variables |= {ref["column_names"][-1] for ref in _walk(node["lhs"]) if ref.get("class") == "COLUMN_REF"}
            case "SUBQUERY":
                raise ValueError("a subquery cannot be used here: the expression sees one row")
            case "WINDOW":
                raise ValueError(f"{node['function_name']}() OVER cannot be used here: the expression sees one row")
            case "STAR":
                raise ValueError("* cannot be used here: name the columns")
            case "PARAMETER":
                raise ValueError("parameters (? and $1) cannot be used here")
            case "FUNCTION":
                _check_function(node["function_name"])
    return [names for names in found if names[0] not in variables]


def _check_function(name: str) -> None:
    kinds = _kinds_of_function().get(name, set())
    if "volatile" in kinds or _SESSION.fullmatch(name):
        raise ValueError(f"{name}() cannot be used here: the same row must always get the same answer")
    if kinds == {"aggregate"}:
        raise ValueError(f"{name}() cannot be used here: it needs many rows, and the expression sees one")


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from _walk(child)
    elif isinstance(node, list):
        for child in node:
            yield from _walk(child)


def resolve(names: tuple[str, ...], types: Types) -> str:
    """The dotted path of a reference; like DuckDB, capital letters do not matter. Raises ValueError."""
    path: list[str] = []
    fields: Mapping[str, pa.DataType] = types
    for depth, name in enumerate(names):
        match = name if name in fields else next((f for f in fields if f.lower() == name.lower()), None)
        if match is None:
            written = ".".join(names)
            hint = nearest(written, [*leaves(types), *types])
            raise ValueError(f"no column {written!r} here" + (f": {hint}" if hint else ""))
        path.append(match)
        kind = fields[match]
        fields = (
            {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)} if pa.types.is_struct(kind) else {}
        )
        if not fields and depth + 1 < len(names):
            raise ValueError(f"{'.'.join(path)} has no fields: it is {kind}")
    return ".".join(path)


def outermost(paths: Iterable[str]) -> list[str]:
    """The paths without those that lie inside another one."""
    known = set(paths)
    return sorted(p for p in known if not any(p.startswith(other + ".") for other in known))


def nest(columns: Mapping[str, pa.Array]) -> pa.Table:
    """Arrays by dotted path as a table of structs."""
    tree: dict[str, Any] = {}
    for path, array in columns.items():
        *above, name = path.split(".")
        level = tree
        for step in above:
            level = level.setdefault(step, {})
        level[name] = array
    return pa.table({name: _struct(value) for name, value in tree.items()})


def _struct(value: Any) -> pa.Array:
    if not isinstance(value, dict):
        return value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value
    return pa.StructArray.from_arrays([_struct(child) for child in value.values()], list(value))


def evaluate(sql: str, rows: pa.Table) -> pa.Array:
    """The expression's value for each row, in order; NULL counts as false. Raises duckdb.Error."""
    cursor = _database().cursor()
    cursor.register(_ROWS, rows)
    found = cursor.sql(f"SELECT coalesce((\n{sql}\n), false) AS keep FROM {_ROWS}").to_arrow_table()
    return found.column("keep").combine_chunks()


def check_boolean(sql: str, rows: pa.Table) -> None:
    """Have DuckDB bind the expression to the types of an empty table. Raises ValueError."""
    import duckdb

    cursor = _database().cursor()
    cursor.register(_ROWS, rows)
    try:
        # In a WHERE clause DuckDB refuses what needs more than one row.
        cursor.execute(f"DESCRIBE SELECT 1 FROM {_ROWS} WHERE (\n{sql}\n)").fetchall()
        kind = cursor.execute(f"DESCRIBE SELECT (\n{sql}\n) FROM {_ROWS}").fetchall()[0][1]
        # Literals that do not fit are found when a row comes by.
        cursor.register("one", pa.table({field.name: pa.nulls(1, field.type) for field in rows.schema}))
        cursor.execute(f"SELECT (\n{sql}\n) FROM one AS {_ROWS}").fetchall()
    except duckdb.Error as error:
        raise ValueError(str(error).split("\n\n")[0].replace("\n", "; ").split(": ", 1)[-1]) from None
    if kind not in ("BOOLEAN", '"NULL"'):
        raise ValueError(f"the expression must say true or false, but it gives {kind}")
