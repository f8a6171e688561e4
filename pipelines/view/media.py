"""Where the bytes of a row's media are, and what kind of media they are for a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.inspect.dataset import DataSet
from schemas.errors import SampleError
from schemas.manifest import SHARDS_DIR
from schemas.sample import KINDS, Part
from schemas.store import STORE_SCHEME, MediaReader, Store

_PIECE = 1 << 20  # bytes in memory at once, however large a video is
# Where the media type is not the kind and the extension.
_TYPES = {
    "jpg": "image/jpeg",
    "tif": "image/tiff",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "opus": "audio/ogg",
    "mkv": "video/x-matroska",
    "avi": "video/x-msvideo",
    "mov": "video/quicktime",
}


def kind_of(part: Part) -> str | None:
    """image, audio or video; None for what no browser shows."""
    return KINDS.get(part.format)


def media_type(part: Part) -> str:
    """The Content-Type of a medium."""
    return _TYPES.get(part.format, f"{KINDS[part.format]}/{part.format}")


def parts_of(row: Mapping[str, Any]) -> dict[str, Part]:
    """The parts of a row by name."""
    return {part["name"]: Part(**part) for part in row.get("parts") or ()}


class Media:
    """The media of a table of a data set: those of samples lie in its shards, those of rejects where they were found.

    store: where media are that a run made for samples which were then rejected.
    """

    def __init__(self, data: DataSet, table: str, store: Store) -> None:
        self._store = store
        self._shards = {f"{SHARDS_DIR}/{os.path.basename(shard)}": shard for shard in data.shards}
        self._own_only = table == "samples" and data.manifest is not None

    def pieces(self, part: Part, start: int, stop: int) -> Iterator[bytes]:
        """Bytes [start, stop) of a part, piece by piece. Raises SampleError where they are not to be had."""
        located = part._replace(uri=self._locate(part.uri))
        reader = MediaReader(self._store)
        try:
            for offset in range(start, stop, _PIECE):
                yield reader(located._replace(offset=part.offset + offset, size=min(_PIECE, stop - offset)))
        finally:
            reader.close()

    def read(self, part: Part) -> bytes:
        """All bytes of a part. Raises SampleError where they are not to be had."""
        return b"".join(self.pieces(part, 0, part.size))

    def _locate(self, uri: str) -> str:
        if uri in self._shards:
            return self._shards[uri]
        below = uri.removeprefix(STORE_SCHEME)
        within_store = below != uri and not os.path.isabs(below) and ".." not in below.split("/")
        if self._own_only or not (within_store or "://" in uri or os.path.isabs(uri)):
            raise SampleError("media_missing", "an index may name its own shards only")
        return uri
