"""Sample and Part: one row of an index and the byte ranges that are its media.

Media stays put: a part says where bytes are (a member of a tar, a plain file) and which span of them is meant.
Nothing is read before a stage asks for it, and what it reads is kept for the later stages of its segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from schemas.errors import StageError, nearest

if TYPE_CHECKING:
    import numpy as np

Seconds: TypeAlias = float
Reader: TypeAlias = "Callable[[Part], bytes]"

# What a file extension holds. The first medium of its kind in a sample is simply called `image`, `audio` or `video`.
KINDS: dict[str, str] = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"), "image"),
    **dict.fromkeys(("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac"), "audio"),
    **dict.fromkeys(("mp4", "avi", "mkv", "webm", "mov"), "video"),
}


class Part(NamedTuple):
    """A named piece of media: `size` bytes at `offset` of `uri`.

    format: file extension in lower case, without a dot.
    view: the span that is meant, `t=12.5,14.2` (seconds) or `page=3`; None is the whole.
    tag: what the foreign file looked like when it was indexed (`size-mtime` or etag), checked when opened.
    digest: BLAKE3-128 of the bytes where it is known.
    """

    name: str
    format: str
    uri: str
    offset: int
    size: int
    view: str | None = None
    tag: str | None = None
    digest: bytes | None = None

    @property
    def span(self) -> tuple[Seconds, Seconds] | None:
        """Start and end in seconds where the view is a span of time."""
        if self.view is None or not self.view.startswith("t="):
            return None
        start, end = self.view[2:].split(",")
        return float(start), float(end)


class Media(NamedTuple):
    """Bytes that a stage made; the engine stores them and turns them into a Part."""

    data: bytes | memoryview
    format: str


def part_name(extension: str, taken: Mapping[str, Any]) -> str:
    """The name of a foreign medium with that extension, the opposite of `member_extension`.

    `speech.wav` is a part called speech; a plain `jpg` is the image, or `jpg` when the sample has an image already.
    """
    stem, _, format = extension.rpartition(".")
    name = stem or KINDS.get(format, format)
    return name if name not in taken else extension


def member_extension(name: str, format: str) -> str:
    """The extension of a part in a tar: `jpg` for the image, `speech.wav` for a part called speech."""
    if name == KINDS.get(format) or name == format:
        return format
    return name if name.endswith(f".{format}") else f"{name}.{format}"


class Sample:
    """A row as a stage sees it: `sample["split.head"]`, `sample.read("image")`, `sample.audio("speech", 16000)`.

    Only what the stage declares in `reads()` can be reached, or the fingerprint of its result would be a lie.
    """

    __slots__ = ("_columns", "_memo", "_new", "_parts", "_read", "_row", "key")

    def __init__(
        self,
        key: str,
        columns: Mapping[str, list[Any]] | None = None,
        row: int = 0,
        parts: Mapping[str, Part] | None = None,
        read: Reader | None = None,
    ) -> None:
        self.key = key
        self._columns = columns if columns is not None else {}
        self._row = row
        self._new: dict[str, Any] = {}
        self._parts: dict[str, Part] = dict(parts) if parts else {}
        self._read = read
        self._memo: dict[Any, Any] = {}

    def __getitem__(self, path: str) -> Any:
        if path in self._new:
            return self._new[path]
        try:
            return self._columns[path][self._row]
        except KeyError:
            hint = f"declare it in reads(); {nearest(path, self._columns)}"
            raise StageError(f"a stage read the column {path!r} that it does not declare", hint) from None

    @property
    def parts(self) -> Mapping[str, Part]:
        """The parts that the stage declared, by name; a part that this sample lacks is absent."""
        return self._parts

    def part(self, name: str) -> Part:
        """The part of that name. Raises SampleError(missing_part) when this sample has none."""
        from schemas.errors import SampleError

        if name not in self._parts:
            raise SampleError("missing_part", name)
        return self._parts[name]

    def read(self, name: str) -> bytes:
        """The bytes of a part. Raises SampleError when they are missing, truncated or changed since indexing."""
        if ("bytes", name) not in self._memo:
            part = self.part(name)
            if self._read is None:
                raise StageError("this sample has no media reader", "build it with read=…")
            self._memo["bytes", name] = self._read(part)
        found: bytes = self._memo["bytes", name]
        return found

    def audio(self, name: str, rate: int | None = None) -> tuple[np.ndarray[Any, Any], int]:
        """The part's view decoded: float32 array (channels, frames) in [-1, 1], and its sample rate in Hz.

        rate: resample to this rate. Raises SampleError(undecodable_audio, empty_audio).
        """
        if ("audio", name, rate) not in self._memo:
            from schemas.media import decode_audio

            part = self.part(name)
            self._memo["audio", name, rate] = decode_audio(self.read(name), part.span, rate)
        found: tuple[np.ndarray[Any, Any], int] = self._memo["audio", name, rate]
        return found

    def write(self, columns: Mapping[str, Any], parts: Mapping[str, Part]) -> None:
        """Make a stage's results visible to the later stages of the segment (used by the engine)."""
        self._new.update(columns)
        for name, part in parts.items():
            self._parts[name] = part
            for memo in [m for m in self._memo if m[1] == name]:
                del self._memo[memo]
