"""What jsonl, csv and parquet have in common: rows with fields, an id, and paths of media files beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from schemas.columns import Columns
from schemas.sample import Part
from schemas.store import is_local
from stages.base import InputPath, New, Origin, Reject, Source, options
from stages.ingest.fields import ColumnTypes, Fields, infer
from stages.ingest.paths import UNUSABLE, InputFile, find_files, problems, stat_file, unusable

HEAD_ROWS = 1000
HEAD_BYTES = 1 << 20
_HEAD_FILES = 10  # empty files at the beginning are passed over
_ROW_REASONS = (*UNUSABLE, "missing_id", "missing_media", "outside_root")


@options
class Table(Source):
    """A source of rows. Fields become columns; those that are no columns stand in `extra`, as JSON."""

    version = 2
    extensions: ClassVar[tuple[str, ...]]
    reasons: ClassVar[tuple[str, ...]] = _ROW_REASONS

    path: InputPath
    """A file, a folder (all files of this kind below it), a pattern such as `data/*.jsonl`, or a URI."""
    columns: ColumnTypes | None = None
    """Column -> type: string, int, float, bool, strings, ints, floats, json. Left out: inferred from the first rows
    of the first file that has any, by what most values are; other values are rejected as `wrong_type`."""
    id: str | None = None
    """The field that makes the key. Left out: the file's name and the row's place in it. The field stays a column, too,
    where `columns` names it or is left out; otherwise it stands in `extra`."""
    media: dict[str, str] = Field(default_factory=dict)
    """Part -> field that holds the path of its file: `{image: image_path}`. A row without a path has no such part."""
    root: InputPath | None = None
    """The folder below which these paths lie; the table's own folder when left out."""

    @cached_property
    def fields(self) -> Fields:
        """The columns, inferred once: workers get them with the stage, whatever the first file is by then."""
        if self.columns is not None:
            return Fields(self.columns)
        usable = (file for file in find_files(self.path, self.extensions) if file.tag)
        for file in islice(usable, _HEAD_FILES):
            kinds = self.infer(file)
            if kinds:
                return Fields(kinds)
        return Fields({})

    def kinds(self) -> dict[str, str]:
        """The short type names: `json` and `string` make other values of one Arrow type."""
        return self.fields.kinds

    def infer(self, file: InputFile) -> dict[str, str]:
        """Column types from the head of a file: at most HEAD_ROWS rows or HEAD_BYTES bytes."""
        return infer(self.head(file))

    def head(self, file: InputFile) -> Iterator[dict[str, Any]]:
        """The first rows of a file."""
        raise NotImplementedError

    def rows(self, origin: Origin) -> Iterator[tuple[str, dict[str, Any] | Reject]]:
        """The rows of a piece of input with their place in the file, or what is wrong with them."""
        raise NotImplementedError

    def writes(self) -> Columns:
        """The columns, and the parts of `media`."""
        return Columns(self.fields.types(), parts=tuple(self.media))

    def check(self) -> Iterator[str]:
        """Missing files, and options that name no field."""
        found = list(problems(self.path, self.extensions))
        yield from found
        if self.root and not found and is_local(self.root) and not os.path.isdir(self.root):
            yield f"there is no folder {self.root}"

    def origins(self) -> Iterator[Origin]:
        """One for each file."""
        for file in find_files(self.path, self.extensions):
            yield file.origin()

    def read(self, origin: Origin) -> Iterator[New | Reject | pa.Table]:
        """A result for each row."""
        bad = unusable(origin)
        if bad:
            yield bad
            return
        stem = InputFile(origin.name, origin.uri, 0, "").stem
        fields, id_field = self.fields, self.id
        folder = self.root or origin.uri.rpartition("/")[0]
        for place, row in self.rows(origin):
            key = f"{stem}/{place}"
            if type(row) is Reject:
                yield row._replace(key=key)
                continue
            assert isinstance(row, dict)
            if id_field is not None:
                value = row.get(id_field)
                if not isinstance(value, (str, int)) or value == "":
                    yield Reject("missing_id", key=key)
                    continue
                key = str(value)
            parts = self._parts(row, folder) if self.media else {}
            if isinstance(parts, Reject):
                yield parts._replace(key=key)
                continue
            yield New(fields.columns(row), parts=parts, key=key)

    def _parts(self, row: dict[str, Any], folder: str) -> dict[str, Part] | Reject:
        parts: dict[str, Part] = {}
        for name, field in self.media.items():
            path = row.get(field)
            if path is None or path == "":
                continue
            part = media_part(name, path, folder, field)
            if isinstance(part, Reject):
                return part
            parts[name] = part
        return parts


def media_part(name: str, path: Any, folder: str, field: str) -> Part | Reject:
    """The file that a row names in `field`, as a part; it must lie below `folder`, or a table could point anywhere."""
    if not isinstance(path, str) or "\0" in path:
        return Reject("missing_media", field)
    if is_local(folder):
        folder = os.path.abspath(folder)
        uri = os.path.normpath(os.path.join(folder, path))
        inside = "://" not in path and os.path.commonpath([folder, uri]) == folder
    else:
        base = folder.rstrip("/")
        uri = path if "://" in path else f"{base}/{path}"
        inside = uri.startswith(f"{base}/") and ".." not in uri.split("/")
    if not inside:
        return Reject("outside_root", field)
    try:
        size, tag = stat_file(uri)
    except (OSError, ValueError):
        return Reject("missing_media", field)
    return Part(name, os.path.splitext(uri)[1][1:].lower(), uri, 0, size, tag=tag)
