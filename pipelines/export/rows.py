"""The samples of a data set one by one, as exports and reviews see them: never more than a batch in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.inspect.dataset import DataSet, query, stream
from pipelines.view.media import parts_of
from schemas.columns import RESERVED, leaves, path_type
from schemas.errors import DataError, SampleError, nearest
from schemas.sample import KINDS, Part

_BATCH = 256
_INTERNAL = (*RESERVED, "shard")


@dataclass(frozen=True)
class Row:
    """A sample of a data set."""

    key: str
    columns: dict[str, Any]
    parts: dict[str, Part]

    def value(self, path: str) -> Any:
        """What stands at a dotted path, or None."""
        found: Any = self.columns
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def text(self, path: str) -> str:
        """The text at a dotted path, empty where there is none."""
        found = self.value(path)
        return "" if found is None else str(found)

    def scalars(self) -> Iterator[tuple[str, Any]]:
        """Dotted path and value of all single numbers, truth values and texts."""
        yield from _scalars(self.columns, "")

    def whole(self, kind: str, name: str) -> Part:
        """An image, audio or video without a view. Raises SampleError(missing_part, wrong_kind, has_view)."""
        if name not in self.parts:
            raise SampleError("missing_part", name)
        if KINDS.get(self.parts[name].format) != kind:
            raise SampleError("wrong_kind", name)
        if self.parts[name].view is not None:
            raise SampleError("has_view", name)
        return self.parts[name]

    def media(self, kind: str | None = None) -> list[Part]:
        """The images, audio and videos, or those of one kind."""
        return [part for part in self.parts.values() if part.format in KINDS and kind in (None, KINDS[part.format])]


def _scalars(values: dict[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{above}{name}.")
        elif isinstance(value, (str, int, float)) and abs(value if isinstance(value, float) else 0) < float("inf"):
            yield f"{above}{name}", value


def rows(data: DataSet, where: str | None = None) -> Iterator[Row]:
    """The samples for which an SQL condition holds, in the order of the data set."""
    with data.connect() as connection:
        for batch in stream(connection, f"SELECT * FROM samples{condition(where)}", _BATCH):
            for values in batch.to_pylist():
                columns = {name: value for name, value in values.items() if name not in _INTERNAL}
                yield Row(values["key"], columns, parts_of(values))


def condition(where: str | None) -> str:
    """An SQL condition as a clause; on lines of its own, so that a comment in it ends there."""
    return "" if where is None else f" WHERE (\n{where}\n)"


def schema(data: DataSet) -> Any:
    """The Arrow schema of the samples."""
    with data.connect() as connection:
        return query(connection, "FROM samples LIMIT 0").schema


def column_types(data: DataSet) -> dict[str, Any]:
    """Arrow types of the columns."""
    return {field.name: field.type for field in schema(data) if field.name not in _INTERNAL}


def check_columns(data: DataSet, paths: Iterable[str]) -> None:
    """Raises DataError for a dotted path that leads to no column."""
    types = column_types(data)
    for path in paths:
        if path_type(types, path) is None:
            raise DataError(f"{data.root} has no column {path!r}", nearest(path, leaves(types)))
