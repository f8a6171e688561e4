"""Interleaved documents: one row for each text and each medium, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.export.chat import conversation
from pipelines.export.form import Form, Options
from pipelines.export.media import MediaFolder
from pipelines.export.rows import Row
from pipelines.view.media import media_type
from schemas.errors import SampleError
from schemas.message import Medium, Text
from schemas.sample import KINDS

SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("position", pa.int32()),
        ("modality", pa.string()),
        ("content_type", pa.string()),
        ("text_content", pa.string()),
        ("binary_content", pa.binary()),
        ("source_ref", pa.string()),
        ("materialize_error", pa.string()),
    ]
)
_GROUP_BYTES = 64 << 20
_GROUP_ROWS = 10_000
_LARGEST = 1 << 30  # Arrow's binary arrays end at 2 GiB


class Interleaved(Form):
    """`data.parquet`: the items of the messages or, where there are none, the media and then the texts."""

    def __init__(self, folder: Path, media: MediaFolder, options: Options, files: ExitStack) -> None:
        super().__init__(folder, media, options, files)
        self._writer = files.enter_context(pq.ParquetWriter(folder / "data.parquet", SCHEMA, compression="zstd"))
        self._held: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, row: Row) -> None:
        """The rows of one sample."""
        made = [self._item(row, position, item) for position, item in enumerate(_items(row))]
        if not made:
            raise SampleError("nothing_to_export")
        self._held += made
        self._bytes += sum(len(item.get("binary_content") or item.get("text_content") or "") for item in made)
        if self._bytes > _GROUP_BYTES or len(self._held) > _GROUP_ROWS:
            self._flush()

    def _item(self, row: Row, position: int, item: Text | Medium) -> dict[str, Any]:
        place = {"sample_id": row.key, "position": position}
        if isinstance(item, Text):
            return {**place, "modality": "text", "content_type": "text/plain", "text_content": item.text}
        part = row.whole(item.type, item.part)
        if part.size > _LARGEST:
            raise SampleError("too_large", part.name)
        where = {"path": part.uri, "byte_offset": part.offset, "byte_size": part.size}
        return {
            **place,
            "modality": item.type,
            "content_type": media_type(part),
            "binary_content": self.media.read(part),
            "source_ref": json.dumps(where, ensure_ascii=False),
        }

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_pylist(self._held, SCHEMA))
            self._held, self._bytes = [], 0

    def finish(self) -> None:
        """The last rows."""
        self._flush()


def _items(row: Row) -> Iterator[Text | Medium]:
    if row.value("messages") is not None:
        for message in conversation(row):
            yield from message.content
        return
    for part in row.media():
        yield Medium.model_validate({"type": KINDS[part.format], "part": part.name})
    for path in ("caption", "text"):
        if row.text(path):
            yield Text(text=row.text(path))
