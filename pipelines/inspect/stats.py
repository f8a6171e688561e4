"""What a data set holds: counts, sizes, media, and a summary of every column."""

from __future__ import annotations

import json
import os
from typing import Any

from pipelines.inspect.dataset import DataSet, unusable
from schemas.store import is_local


def stats(data: DataSet) -> dict[str, Any]:
    """Counts, sizes and a summary of every column."""
    with data.connect() as connection:
        return _stats(data, connection)


def _stats(data: DataSet, connection: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"root": data.root, "shards": len(data.shards)}
    [found["samples"]] = connection.execute("SELECT count(*) FROM samples").fetchone()
    sizes = [_size(shard, data.root) for shard in data.shards if is_local(shard)]
    found["bytes"] = data.manifest.bytes if data.manifest else sum(sizes)
    if data.manifest is None:
        problems = json.loads((data.index.schema.metadata or {}).get(b"problems", b"{}"))
        found["problems"] = problems
    else:
        found["rejected"] = data.manifest.rejected
        found["licenses"] = data.manifest.licenses
    names = [row[0] for row in connection.execute("DESCRIBE samples").fetchall()]
    if "source" in names:
        query = "SELECT coalesce(source, '?'), count(*) FROM samples GROUP BY 1 ORDER BY 2 DESC, 1"
        found["sources"] = dict(connection.execute(query).fetchall())
    found["media"] = _media(connection) if "parts" in names else []
    found["columns"] = _columns(connection)
    if sizes:
        found["shard_bytes"] = {"min": min(sizes), "mean": sum(sizes) // len(sizes), "max": max(sizes)}
    return found


def _size(shard: str, root: str) -> int:
    try:
        return os.path.getsize(shard)
    except FileNotFoundError:
        raise unusable(shard, "is missing", root) from None


def _media(connection: Any) -> list[dict[str, Any]]:
    query = (
        "SELECT p.name, p.format, count(*) AS samples, sum(p.size)::BIGINT AS bytes FROM "
        "(SELECT unnest(parts) AS p FROM samples) GROUP BY ALL ORDER BY ALL"
    )
    return [
        dict(zip(("name", "format", "samples", "bytes"), row, strict=True))
        for row in connection.execute(query).fetchall()
    ]


def _columns(connection: Any) -> list[dict[str, Any]]:
    """Each leaf column with its type, how many values it has and its range."""
    leaves: list[tuple[str, str, str]] = []
    for name, kind, *_ in connection.execute("DESCRIBE samples").fetchall():
        if name in ("parts", "shard"):
            continue
        if kind.startswith("STRUCT("):
            fields = connection.execute(f'SELECT unnest("{name}") FROM samples LIMIT 0').description
            leaves += [(f"{name}.{field[0]}", f'"{name}"."{field[0]}"', str(field[1])) for field in fields]
        else:
            leaves.append((name, f'"{name}"', kind))
    rows = []
    for path, expression, kind in leaves:
        number = kind in ("BIGINT", "INTEGER", "DOUBLE", "FLOAT", "HUGEINT", "NUMBER")
        measure = expression if number else f"length({expression})" if kind in ("VARCHAR", "STRING") else "NULL"
        query = (
            f"SELECT count({expression}), approx_count_distinct({expression}), min({measure}), avg({measure}), "
            f"approx_quantile({measure}, 0.5), max({measure}) FROM samples"
        )
        present, distinct, low, mean, median, high = connection.execute(query).fetchone()
        rows.append(
            {
                "column": path,
                "type": kind.lower(),
                "measure": "value" if number else "length",
                "present": present,
                "distinct": distinct,
                "min": low,
                "mean": mean,
                "median": median,
                "max": high,
            }
        )
    return rows
