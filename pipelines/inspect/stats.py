"""What a data set holds: counts, sizes, durations and resolutions, by group; every column when asked.

The usual tables come from one pass, which folds the samples into cells: a row for each combination of the groups'
values. A cell also keeps the measures of some of its samples, and quantiles are theirs: of all samples up to _PICKED,
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
from pipelines.inspect.dataset import DataSet, parquet, query, unusable
from schemas.errors import DataError
from schemas.store import is_local

_PICKED = 200_000
_FEWEST = 20  # picked samples that a group's medians need, unless they are all
_QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95}


def stats(data: DataSet, by: Sequence[str] = ()) -> dict[str, Any]:
    """Counts, bytes, tokens, durations and resolutions of a data set and its groups.

    by: columns (dotted paths, or `modality`) whose values make one table of groups; otherwise there is a table for
        each of source, task, language and modality. Raises DataError for an unknown column.
    """
    with data.connect() as connection:
        columns = leaves(connection, "samples")
        found = _head(data, connection)
        groups = [list(by)] if by else [[name] for name in DIMENSIONS if name in columns or name == MODALITY]
        paths = list(dict.fromkeys(path for group in groups for path in group))
        measures = _measures(columns)
        texts = has_text(columns) if data.manifest is None else _has_text(connection, data, columns)
        figures, source = _figures(data, columns, measures, found["samples"])
        connection.execute(f"CREATE TEMP TABLE cells AS {grouped(columns, paths, figures, source, texts)}")
        found["measures"] = [_measure(connection, name) for name in measures]
        found["groups"] = [
            {"by": group, "rows": _rows(connection, {path: f"g{paths.index(path)}" for path in group}, measures)}
            for group in groups
        ]
    return found


def _head(data: DataSet, connection: Any) -> dict[str, Any]:
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


def _measures(columns: Mapping[str, Leaf]) -> dict[str, str]:
    """SQL of what is measured of a sample: its tokens where a step counted them, else its characters."""
    found = {name: name for name in ("duration", "width", "height") if name in columns and columns[name].number}
    tokens = [leaf.sql for leaf in columns.values() if leaf.number and f".{leaf.path}".endswith(".tokens")]
    texts = [f"length({name})" for name in ("text", "caption") if name in columns]
    if tokens:
        found["tokens"] = _sum(tokens)
    elif texts:
        found["characters"] = _sum(texts)
    return found


def _sum(terms: list[str]) -> str:
    return " + ".join(f"coalesce({term}, 0)" for term in terms)


def _has_text(connection: Any, data: DataSet, columns: Mapping[str, Leaf]) -> str:
    """SQL: whether a sample has text. Texts are long: where the footers say how many are null, none is read."""
    assert data.manifest is not None
    counts = (
        "SELECT path_in_schema, sum(stats_null_count) FROM parquet_metadata(?) GROUP BY 1 "
        "HAVING count(stats_null_count) = count(*) AND sum(num_values) = ?"
    )
    nulls = dict(connection.execute(counts, [data.index, data.manifest.samples]).fetchall())
    if any(nulls.get(name) == 0 for name in TEXTS):
        return "true"
    return has_text(name for name in TEXTS if name in columns and nulls.get(name) != data.manifest.samples)


def _figures(data: DataSet, columns: Mapping[str, Leaf], measures: dict[str, str], samples: int) -> tuple[str, str]:
    """What a cell holds, and what it is made from."""
    size = f"list_sum({each_part(columns, 'p.size')})" if "parts" in columns else "0"
    figures = ["count(*) AS samples", f"coalesce(sum({size}), 0)::BIGINT AS bytes"]
    for name, sql in measures.items():
        total = "fsum" if name == "duration" else "sum"  # exact enough to be the same in any order
        figures += [f"count({sql}) AS n_{name}, {total}({sql}) AS sum_{name}"]
        figures += [f"min({sql}) AS min_{name}, max({sql}) AS max_{name}"]
    every = -(-samples // _PICKED)
    source, some = "samples", ""
    if data.manifest is not None and every > 1:
        source, some = parquet(data.index), f" FILTER (hash(file_row_number) % {every} = 0)"
    picked = ", ".join(f"{name} := {sql}" for name, sql in measures.items()) or "nothing := NULL"
    return ", ".join([*figures, f"list(struct_pack({picked})){some} AS picked"]), source


def _measure(connection: Any, name: str) -> dict[str, Any]:
    """How a measure is distributed over all samples."""
    sql = f"SELECT sum(n_{name}), min(min_{name}), max(max_{name}), sum(sum_{name}), {_quantiles(name)} FROM cells"
    present, low, high, total, quantiles = connection.execute(sql).fetchone()
    mean = steady(total / present) if present else None
    found = {"measure": name, "present": present, "sum": steady(total), "min": low, "mean": mean, "max": high}
    return found | dict(zip(_QUANTILES, quantiles or [None] * len(_QUANTILES), strict=True))


def _quantiles(name: str) -> str:
    """SQL: the quantiles of a measure over the samples that were picked."""
    values = f"list_transform({_PICKS}, lambda p: p.{name})"
    return f"list_aggregate({values}, 'quantile_disc', {list(_QUANTILES.values())})"


_PICKS = "flatten(list(picked) FILTER (picked IS NOT NULL))"


def steady(value: Any) -> Any:
    """A figure without the last digits of a sum of floats, which depend on the order of adding."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _rows(connection: Any, group: dict[str, str], measures: dict[str, str]) -> list[dict[str, Any]]:
    """A table of groups, the largest first."""
    sums = [name for name in measures if name not in ("width", "height")]
    medians = [name for name in ("duration", "width", "height") if name in measures]
    enough = f"len({_PICKS}) >= least({_FEWEST}, sum(samples))"
    figures = ["sum(samples)::BIGINT", "sum(bytes)::BIGINT", *(f"sum(sum_{name})" for name in sums)]
    figures += [f"CASE WHEN {enough} THEN {_quantiles(name)}[2] END" for name in medians]
    keys = ", ".join(group.values())
    sql = f"SELECT {keys}, {', '.join(figures)} FROM cells GROUP BY ALL ORDER BY sum(samples) DESC, {keys}"
    rows = []
    for row in connection.execute(sql).fetchall():
        values, (samples, size), rest = row[: len(group)], row[len(group) :][:2], row[len(group) + 2 :]
        found = {"group": dict(zip(group, values, strict=True)), "samples": samples, "bytes": size}
        found |= dict(zip(sums, map(steady, rest[: len(sums)]), strict=True))
        found["median"] = dict(zip(medians, rest[len(sums) :], strict=True))
        rows.append(found)
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
                "GROUP BY ALL ORDER BY meet DESC, ALL"
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
