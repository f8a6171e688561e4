"""select.keys: leave out the samples of a list, or keep no others."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.columns import LINEAGE, Columns, Types
from schemas.digest import digest
from schemas.errors import DataError
from stages.base import Columnar, InputPath, options
from stages.ingest.jsonl import parse_object
from stages.ingest.paths import open_file, problems
from stages.select.rows import dropped


@options
class Keys(Columnar):
    """Reject the samples whose key is in a file (they were taken down), or keep those alone.

    A key stands for all that was made of its sample: where the data set has the column `lineage`, rows with a listed
    ancestor count as listed. What is in the file counts for the result, not where it lies.
    """

    reasons = ("taken_down", "not_listed")
    nameless = ("taken_down",)

    file: InputPath
    """One key a line; or a table (`.csv`, `.jsonl`, `.parquet`) with a column `key`. It is held in memory."""
    keep: bool = False
    """Whether the listed samples are the ones that stay; all others are then rejected as `not_listed`."""

    @cached_property
    def _digest(self) -> bytes:
        """Of the file as it was planned with; workers get it with the stage."""
        return digest(_content(self.file))

    def check(self) -> Iterator[str]:
        """A missing file, or a table without keys."""
        found = list(problems(self.file))
        yield from found
        if not found:
            try:
                self.listed()
            except DataError as error:
                yield error.message

    def listed(self) -> frozenset[str]:
        """The keys in the file. Raises DataError where it cannot be read."""
        return _keys(self.file, self._digest)

    def identity(self) -> dict[str, Any]:
        """The file's content."""
        return {"file": self._digest.hex()}

    def bind(self, types: Types) -> None:
        """Look for ancestors where there are any."""
        object.__setattr__(self, "_lineage", "lineage" in types)  # frozen for users; a worker gets it with the stage

    def reads(self) -> Columns:
        """The ancestors, where the column is there."""
        return Columns({"lineage": LINEAGE} if self.__dict__.get("_lineage") else {})

    def table(self, rows: pa.Table) -> pa.Table:
        """`_drop` for the listed rows, or for the others."""
        keys = self.listed()
        own = rows.column("key").to_pylist()
        lineage = rows.column("lineage").to_pylist() if "lineage" in rows.column_names else [None] * len(own)
        listed = [
            key in keys or any(ancestor["key"] in keys for ancestor in ancestors or ())
            for key, ancestors in zip(own, lineage, strict=True)
        ]
        keep = np.array(listed, dtype=bool) == self.keep
        return pa.table(
            {"key": rows.column("key"), "_drop": dropped(keep, "not_listed" if self.keep else "taken_down")}
        )


def _content(uri: str) -> bytes:
    try:
        with open_file(uri) as file:
            return file.read()
    except OSError as error:
        raise DataError(f"cannot read {uri}: {error.strerror or error}") from None


@lru_cache(maxsize=4)
def _keys(uri: str, expected: bytes) -> frozenset[str]:
    """The keys in a file. Raises DataError where it is no list of keys, or not the one of that digest any more."""
    data = _content(uri)
    if digest(data) != expected:
        raise DataError(f"{uri} was changed while the run went on", "run the recipe again")
    read = _READERS.get(uri.rpartition(".")[2].lower(), _lines)
    try:
        return frozenset(read(data))
    except KeyError:
        raise DataError(f"{uri} has no column `key`") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{uri} holds no keys that can be read: {error}") from None


def _lines(data: bytes) -> Iterator[str]:
    lines = data.decode("utf-8-sig").split("\n")  # not splitlines: it cuts keys at U+2028 and its like
    return (key for line in lines if (key := line.removesuffix("\r")))


def _csv(data: bytes) -> Iterator[str]:
    return (row["key"] for row in csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def _jsonl(data: bytes) -> Iterator[str]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            row = parse_object(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: {row.reason}")
            yield row["key"]


def _parquet(data: bytes) -> list[str]:
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(data)).read(columns=["key"]).column("key").to_pylist()


_READERS: dict[str, Callable[[bytes], Any]] = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
