"""Samples and rejects, one by one."""

from __future__ import annotations

from typing import Any

from pipelines.inspect.dataset import DataSet, query
from schemas.errors import OmnicurateError


def rows_of(data: DataSet, key: str | None = None, count: int = 5, rejects: bool = False) -> list[dict[str, Any]]:
    """Some samples (or one by key) as dictionaries. Raises OmnicurateError for an unknown key."""
    table = "rejects" if rejects else "samples"
    where = "WHERE key = ?" if key is not None else ""
    order = "" if key is None and not rejects else "ORDER BY key"
    values = [key] if key is not None else []
    with data.connect() as connection:
        found = query(connection, f"SELECT * FROM {table} {where} {order} LIMIT {int(count)}", values)
        rows: list[dict[str, Any]] = found.to_pylist()
    if key is not None and not rows:
        if not rejects and data.rejected:
            rows = rows_of(data, key, count, rejects=True)
        if not rows:
            raise OmnicurateError(f"there is no sample {key!r} in {data.root}", "omnicurate show DIR lists some keys")
    return rows
