"""What a data set holds: counts, sizes, durations and resolutions, by group; every column when asked.

The usual tables come from one pass, which folds the samples into cells: a row for each combination of the groups'
values. A cell also keeps the numbers of some of its samples, and quantiles are theirs: of all samples up to _PICKED,
and of about so many above.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.inspect.columns import (
    DIMENSIONS,
    MODALITY,
    TEXTS,
    Leaf,
    each_part,
    grouped,
    has_text,
    leaves,
    unknown,
)
from pipelines.inspect.dataset import DataSet, query, unusable
from schemas.errors import DataError
from schemas.store import is_local

_PICKED = 100_000
_FEWEST = 20  # picked samples that a group's medians need, unless they are all
_QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95}
_MEDIANS = ("duration", "width", "height")  # which groups state


def stats(data: DataSet, by: Sequence[str] = ()) -> dict[str, Any]:
    """Counts, bytes, tokens, durations and resolutions of a data set and its groups, quantiles of numeric columns.

    by: columns (dotted paths, or `modality`) whose values make one table of groups; otherwise there is a table for
        each of source, task, language and modality. Raises DataError for an unknown column.
    """
    with data.connect() as connection:
        columns = leaves(connection, "samples")
        found = _head(data)
        groups = [list(by)] if by else [[name] for name in DIMENSIONS if name in columns or name == MODALITY]
        keys = {path: f"g{i}" for i, path in enumerate(dict.fromkeys(path for group in groups for path in group))}
        lengths = _lengths(columns)
        texts = has_text(columns) if data.manifest is None else _has_text(connection, data.index, columns, found)
        numbers = {path: leaf.sql for path, leaf in columns.items() if leaf.number and path != "order"}
        if "characters" in lengths:
            numbers["characters"] = lengths["characters"]
        _fold(connection, columns, keys, texts, lengths, numbers, found["samples"])
        found["picked"], found["quantiles"] = _quantiles(connection, list(numbers))
        medians = {path: f"c{place}" for place, path in enumerate(numbers) if path in _MEDIANS}
        found["groups"] = [
            {"by": group, "rows": _rows(connection, {path: keys[path] for path in group}, list(lengths), medians)}
            for group in groups
        ]
        for name in lengths:
            [total] = connection.execute(f"SELECT sum({name}) FROM cells").fetchone()
            found[name] = steady(total)
    return found


def _head(data: DataSet) -> dict[str, Any]:
    """What the manifest says, or the tars do."""
    sizes = [_size(shard, data.root) for shard in data.shards if is_local(shard)]
    found: dict[str, Any] = {"root": data.root}
    if data.manifest is not None:
        manifest = data.manifest
        sizes, counts = [shard.bytes for shard in manifest.shards], [shard.samples for shard in manifest.shards]
        found |= {"samples": manifest.samples, "rejected": manifest.rejected, "licenses": manifest.licenses}
    else:
        counted = Counter(data.index.column("shard").to_pylist() if len(data.index) else ())
        counts = [counted[os.path.basename(shard)] for shard in data.shards]
        problems = json.loads((data.index.schema.metadata or {}).get(b"problems", b"{}"))
        found |= {"samples": len(data.index), "problems": problems}
    found |= {"shards": len(data.shards), "bytes": sum(sizes)}
    for name, values in (("shard_bytes", sizes), ("shard_samples", counts)):
        if values:
            found[name] = {"min": min(values), "mean": sum(values) // len(values), "max": max(values)}
    return found


def _size(shard: str, root: str) -> int:
    try:
        return os.path.getsize(shard)
    except FileNotFoundError:
        raise unusable(shard, "is missing", root) from None


def _lengths(columns: Mapping[str, Leaf]) -> dict[str, str]:
    """SQL of what is summed: durations, and tokens where a step counted them, else characters."""
    found = {"duration": "duration"} if "duration" in columns and columns["duration"].number else {}
    tokens = [leaf.sql for leaf in columns.values() if leaf.number and f".{leaf.path}".endswith(".tokens")]
    texts = [f"length({name})" for name in ("text", "caption") if name in columns]
    if tokens or texts:
        found["tokens" if tokens else "characters"] = " + ".join(f"coalesce({term}, 0)" for term in tokens or texts)
    return found


def _has_text(connection: Any, index: list[str], columns: Mapping[str, Leaf], found: dict[str, Any]) -> str:
    """SQL: whether a sample has text. Texts are long: where the footers say how many are null, none is read."""
    counts = (
        "SELECT path_in_schema, sum(stats_null_count) FROM parquet_metadata(?) GROUP BY 1 "
        "HAVING count(stats_null_count) = count(*) AND sum(num_values) = ?"
    )
    nulls = dict(connection.execute(counts, [index, found["samples"]]).fetchall())
    if any(nulls.get(name) == 0 for name in TEXTS):
        return "true"
    return has_text(name for name in columns if nulls.get(name) != found["samples"])


def _fold(
    connection: Any,
    columns: Mapping[str, Leaf],
    keys: Mapping[str, str],
    texts: str,
    lengths: Mapping[str, str],
    numbers: Mapping[str, str],
    samples: int,
) -> None:
    """The one pass: make the tables `cells`, and `picks` with the numbers c0, c1, …"""
    size = f"list_sum({each_part(columns, 'p.size')})" if "parts" in columns else "0"
    figures = ["count(*) AS samples", f"coalesce(sum({size}), 0)::BIGINT AS bytes"]
    for name, sql in lengths.items():
        figures.append(f"{'fsum' if name == 'duration' else 'sum'}({sql}) AS {name}")
    packed = ", ".join(f"c{place} := {sql}" for place, sql in enumerate(numbers.values())) or "nothing := NULL"
    some = f"hash(_row) % {-(-samples // _PICKED) or 1} = 0"
    figures.append(f"list(struct_pack({packed})) FILTER (WHERE {some}) AS picked")
    cells = grouped(columns, list(keys), ", ".join(figures), "_samples", texts)
    connection.execute(f"CREATE TEMP TABLE cells AS {cells}")
    names = ", ".join([*keys.values(), "unnest(picked, max_depth := 2)"])
    connection.execute(f"CREATE TEMP TABLE picks AS SELECT {names} FROM cells")


def _quantiles(connection: Any, numbers: list[str]) -> tuple[int, list[dict[str, Any]]]:
    """How many samples were picked; how each number is distributed over them, and which share of them has it."""
    wanted = (f"count(c{i}), quantile_disc(c{i}, {list(_QUANTILES.values())})" for i in range(len(numbers)))
    picks, *row = connection.execute(f"SELECT {', '.join(['count(*)', *wanted])} FROM picks").fetchone()
    rows = [
        {"column": path, "present": steady(present / picks), **dict(zip(_QUANTILES, quantiles, strict=True))}
        for path, present, quantiles in zip(numbers, row[::2], row[1::2], strict=True)
        if present
    ]
    return picks, rows


def steady(value: Any) -> Any:
    """A figure without the last digits of a sum of floats, which depend on the order of adding."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _rows(
    connection: Any, keys: Mapping[str, str], lengths: list[str], medians: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A table of groups, the largest first."""
    names = ", ".join(keys.values())
    sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in ("samples", "bytes"))
    sums += "".join(f", sum({name}) AS {name}" for name in lengths)
    picked = ", ".join(["count(*) AS picks", *(f"quantile_disc({c}, 0.5) AS {name}" for name, c in medians.items())])
    same = " AND ".join(f"a.{key} IS NOT DISTINCT FROM b.{key}" for key in keys.values())
    enough = f"b.picks >= least({_FEWEST}, a.samples)"
    shown = [*(f"a.{key}" for key in keys.values()), "a.samples", "a.bytes", *(f"a.{name}" for name in lengths)]
    shown += [f"CASE WHEN {enough} THEN b.{name} END" for name in medians]
    sql = (
        f"SELECT {', '.join(shown)} FROM (SELECT {names}, {sums} FROM cells GROUP BY ALL) AS a "
        f"LEFT JOIN (SELECT {names}, {picked} FROM picks GROUP BY ALL) AS b ON {same} "
        f"ORDER BY a.samples DESC, {', '.join(f'a.{key}' for key in keys.values())}"
    )
    rows = []
    for row in connection.execute(sql).fetchall():
        group, figures, middle = (
            row[: len(keys)],
            row[len(keys) : len(shown) - len(medians)],
            row[len(shown) - len(medians) :],
        )
        found: dict[str, Any] = {"group": dict(zip(keys, group, strict=True))}
        found |= dict(zip(("samples", "bytes", *lengths), map(steady, figures), strict=True))
        rows.append(found | {"median": dict(zip(medians, middle, strict=True))})
    return rows


def summary(data: DataSet) -> dict[str, Any]:
    """Each leaf column with its type, values and range, and the media by part: several passes."""
    with data.connect() as connection:
        columns = leaves(connection, "samples")
        shown = [leaf for path, leaf in columns.items() if path not in ("parts", "shard")]
        return {
            "root": data.root,
            "media": _media(connection) if "parts" in columns else [],
            "columns": [_column(connection, leaf) for leaf in shown],
        }


def _media(connection: Any) -> list[dict[str, Any]]:
    sql = (
        "SELECT p.name, p.format, count(*), sum(p.size)::BIGINT "
        "FROM (SELECT unnest(parts) AS p FROM samples) GROUP BY ALL ORDER BY ALL"
    )
    names = ("name", "format", "samples", "bytes")
    return [dict(zip(names, row, strict=True)) for row in connection.execute(sql).fetchall()]


def _column(connection: Any, leaf: Leaf) -> dict[str, Any]:
    length = leaf.type == "VARCHAR"
    measure = leaf.sql if leaf.number else f"length({leaf.sql})" if length else "NULL::BIGINT"
    sql = (
        f"SELECT count({leaf.sql}), approx_count_distinct({leaf.sql}), min({measure}), favg({measure}), "
        f"max({measure}), quantile_disc({measure}, {list(_QUANTILES.values())}) FROM samples"
    )
    present, distinct, low, mean, high, quantiles = connection.execute(sql).fetchone()
    return {
        "column": leaf.path,
        "type": leaf.type.lower(),
        "measure": "length" if length else "value",
        "present": present,
        "distinct": distinct,
        "min": low,
        "mean": steady(mean),
        **dict(zip(_QUANTILES, quantiles or [None] * len(_QUANTILES), strict=True)),
        "max": high,
    }


def select(data: DataSet, sql: str) -> list[dict[str, Any]]:
    """The rows of one SELECT over `samples`, `rejects` and `lineage`. Raises DataError for any other SQL."""
    with data.connect() as connection:
        rows: list[dict[str, Any]] = query(connection, sql).to_pylist()
        return rows


def what_if(data: DataSet, condition: str, by: Sequence[str] = ()) -> dict[str, Any]:
    """How many samples (and rejects) meet a condition, in all and by task or by the columns given.

    Raises DataError where the condition is none or names an unknown column.
    """
    with data.connect() as connection:
        columns = leaves(connection, "samples")
        names = _names(condition)
        for name in names:
            if not _known(name, columns):
                raise unknown(name, columns)
        kind = query(connection, f"SELECT typeof((\n{condition}\n)) AS kind FROM samples LIMIT 1").column("kind")
        if len(kind) and kind[0].as_py() not in ("BOOLEAN", '"NULL"'):
            raise DataError(f"the condition must say true or false, but it gives {kind[0].as_py()}")
        paths = list(by) or [name for name in ("task", "source", MODALITY) if name in columns or name == MODALITY][:1]
        met = f"count(*) FILTER (WHERE (\n{condition}\n))"
        cells = grouped(columns, paths, f"count(*) AS n, {met} AS met", "samples", has_text(columns))
        keys = ", ".join(f"g{i}" for i in range(len(paths)))
        sums = "sum(n)::BIGINT AS n, sum(met)::BIGINT AS met"
        sql = f"SELECT {keys}, {sums} FROM ({cells}) GROUP BY ALL ORDER BY n DESC, {keys}"
        rows = [
            {"group": dict(zip(paths, values, strict=True)), "samples": n, "kept": met, "dropped": n - met}
            for *values, n, met in (tuple(row.values()) for row in query(connection, sql).to_pylist())
        ]
        totals = {name: sum(row[name] for row in rows) for name in ("samples", "kept", "dropped")}
        rejects = leaves(connection, "rejects") if data.rejected else {}
        found: dict[str, Any] = {"root": data.root, "condition": condition, **totals, "by": paths, "rows": rows}
        found["rejects"] = None
        if rejects and all(_known(name, rejects) for name in names):
            sql = (
                f"SELECT flow, step, reason, count(*) AS rejected, {met} AS meet FROM rejects "
                "GROUP BY ALL ORDER BY meet DESC, flow, step, reason"
            )
            found["rejects"] = query(connection, sql).to_pylist()
        return found


def _names(condition: str) -> list[str]:
    """The columns that a condition names. Raises DataError."""
    from stages.filter.expression import references

    try:
        return [".".join(names) for names in references(condition)]
    except ValueError as error:
        raise DataError(f"the condition cannot be used: {error}") from None


def _known(name: str, columns: Mapping[str, Leaf]) -> bool:
    """Whether a name is a column, or a struct of some; like DuckDB, capital letters do not matter."""
    wanted = name.lower()
    return any(path.lower() == wanted or path.lower().startswith(f"{wanted}.") for path in columns)
