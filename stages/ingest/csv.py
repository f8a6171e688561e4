"""ingest.csv: tables as comma- or tab-separated text."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Annotated, Any

from pydantic import Field

from stages.base import Origin, Reject, options
from stages.ingest.fields import infer
from stages.ingest.paths import InputFile, open_file
from stages.ingest.tables import HEAD_ROWS, Table

_INT = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_PADDED = re.compile(r"-?0[0-9]+")  # 007 is a name, and would not come back from a number
_SHARE = 0.9499  # of the cells that are not empty: a column is a number when 95 of 100 are
_LONGEST_CELL = 16 << 20  # a stray quote must not swallow a whole file into memory


@options
class Csv(Table):
    """Comma-separated (.csv) or tab-separated (.tsv) text in UTF-8, with a header line unless `names` are given.

    A row's key ends in its number from 0 on, without the header. An empty cell is null.
    Rejects of rows say in which line (from 1 on, with the header) the row begins.
    """

    extensions = ("csv", "tsv")
    reasons = (*Table.reasons, "broken_csv", "broken_header", "not_utf8", "wrong_width")

    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Between cells; left out: a tab for .tsv files, otherwise a comma."""
    names: list[str] | None = None
    """The columns' names, for files without a header line."""
    quotes: bool = True
    """Whether cells may stand in double quotes; false reads quotes as text."""

    def head(self, file: InputFile) -> Iterator[dict[str, Any]]:
        """The first rows as text."""
        rows = islice(self._records(file.origin(), lambda name, cell: cell), HEAD_ROWS)
        return (row for _, row in rows if isinstance(row, dict))

    def infer(self, file: InputFile) -> dict[str, str]:
        """Types from what the cells look like: what 95 of 100 cells are. One number with leading zeros makes text."""
        seen: dict[str, None] = {}
        names: set[str] = set()

        def examples() -> Iterator[dict[str, Any]]:
            for row in self.head(file):
                seen.update(dict.fromkeys(row))
                names.update(name for name, cell in row.items() if cell and _PADDED.fullmatch(cell))
                yield {name: _guess(cell) for name, cell in row.items()}

        kinds = infer(examples(), share=_SHARE)
        kinds.update((name, "json") for name in names & kinds.keys())
        # A mixture of numbers and words is text, not JSON; a column that was empty so far holds text too.
        return {name: "string" if kinds.get(name, "json") == "json" else kinds[name] for name in seen if _can_be(name)}

    def rows(self, origin: Origin) -> Iterator[tuple[str, dict[str, Any] | Reject]]:
        """Rows with their numbers, cells converted to the columns' types."""
        kinds = self.fields.kinds
        return self._records(origin, lambda name, cell: _convert(cell, kinds.get(name, "string")))

    def _records(
        self, origin: Origin, convert: Callable[[str, str], Any]
    ) -> Iterator[tuple[str, dict[str, Any] | Reject]]:
        csv.field_size_limit(_LONGEST_CELL)
        separator = self.separator or ("\t" if origin.name.lower().endswith(".tsv") else ",")
        with open_file(origin.uri) as file:
            lines = _Lines(file)
            reader = csv.reader(
                lines,
                delimiter=separator,
                quoting=csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE,
                strict=True,
            )
            try:
                names = self.names or next(reader, None)
            except csv.Error:
                names = []
            if names is None:
                return
            if lines.broken or not names or len(set(names)) < len(names):
                yield "header", Reject("broken_header", "not UTF-8, or a name stands there twice")
                return
            number = 0
            step: Callable[[], list[str] | None] = partial(next, reader, None)
            while True:
                place, line = f"{number:09d}", reader.line_num + 1
                try:
                    cells = step()
                except csv.Error:
                    yield place, Reject("broken_csv", f"line {line}")
                    number += 1
                    lines.broken = False
                    continue
                if cells is None:
                    return
                if not cells:  # an empty line
                    continue
                number += 1
                if lines.broken:
                    lines.broken = False
                    yield place, Reject("not_utf8", f"line {line}")
                elif len(cells) != len(names):
                    yield (
                        place,
                        Reject("wrong_width", f"line {line}: {len(cells)} cells where {len(names)} are expected"),
                    )
                else:
                    pairs = zip(names, cells, strict=True)
                    yield place, {name: convert(name, cell) if cell else None for name, cell in pairs}


class _Lines:
    """Decoded lines of a file; `broken` is set by one that is not UTF-8."""

    def __init__(self, file: Any) -> None:
        self._file = iter(file)
        self._first = True
        self.broken = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.broken = True
            return line.decode("utf-8", "replace")


def _can_be(name: str) -> bool:
    return bool(infer([{name: ""}]))


def _guess(cell: str) -> Any:
    if not cell:
        return None
    if _INT.fullmatch(cell):
        return int(cell)
    if _FLOAT.fullmatch(cell) and cell.strip("-+.eE"):
        return float(cell)
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _convert(cell: str, kind: str) -> Any:
    """The value of a cell; text that is not of the type stays text, and the row is rejected for it."""
    try:
        match kind:
            case "int":
                return int(cell)
            case "float":
                return float(cell)
            case "bool":
                return {"true": True, "1": True, "false": False, "0": False}.get(cell.lower(), cell)
            case "strings" | "ints" | "floats" | "json":
                return json.loads(cell)
    except ValueError:
        return cell
    return cell
