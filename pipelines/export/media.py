"""Media as files in a folder: copied by ranges under names that are made of keys and cannot leave the folder."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from blake3 import blake3

from pipelines.export.rows import Row
from pipelines.view.media import Media
from schemas.digest import DIGEST_BYTES, digest
from schemas.errors import SampleError
from schemas.sample import Part, member_extension

_UNSAFE = re.compile(r"[^\w~@+=,-]")
_LONGEST = 150  # bytes of a name; file systems take 255


def file_stem(key: str) -> str:
    """A relative path for a key, another one for every key; nothing in it is hidden, empty, blank or goes upwards."""
    return "/".join(_safe(name) or "%" for name in key.split("/"))


def _safe(name: str, also: str = "") -> str:
    escaped = _UNSAFE.sub(
        lambda found: found[0] if found[0] in also else "".join(f"%{byte:02X}" for byte in found[0].encode()), name
    )
    raw = escaped.encode()
    if len(raw) <= _LONGEST:
        return escaped
    return f"{raw[: _LONGEST - 17].decode('utf-8', 'ignore')}_{digest(raw).hex()[:16]}"


class MediaFolder:
    """Copies the parts of samples to files below a folder; a sample that fails leaves none."""

    def __init__(self, root: Path, media: Media, name: str = "media") -> None:
        """root: what the paths that `copy` gives are relative to. name: of the folder below it."""
        self._root = root
        self._media = media
        self._name = name
        self._new: dict[str, Path] = {}

    @contextlib.contextmanager
    def sample(self) -> Iterator[None]:
        """All files of one sample, or none of them when a SampleError is raised."""
        self._new = {}
        try:
            yield
        except SampleError:
            for path in self._new.values():
                path.unlink(missing_ok=True)
            raise

    def write(self, rows: Iterable[Row], add: Callable[[Row], None]) -> tuple[int, dict[str, int]]:
        """Have `add` write each row, with all its files or none; how many were written, and the others by reason."""
        done = 0
        skipped: Counter[str] = Counter()
        for row in rows:
            try:
                with self.sample():
                    add(row)
                done += 1
            except SampleError as error:
                skipped[error.reason] += 1
        return done, dict(sorted(skipped.items()))

    def copy(self, key: str, part: Part) -> str:
        """Copy a part of the sample in hand, once; the file's relative path.

        Raises SampleError where its bytes are not there or not what was published, or where the key is taken.
        """
        extension = _safe(member_extension(part.name, part.format), also=".")
        relative = f"{self._name}/{file_stem(key)}.{extension}"
        if relative in self._new:
            return relative
        path = self._root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise SampleError("duplicate_key")
        self._new[relative] = path
        with open(path, "xb") as file:
            for piece in self._pieces(part):
                file.write(piece)
        return relative

    def read(self, part: Part) -> bytes:
        """All bytes of a part, checked as `copy` does."""
        return b"".join(self._pieces(part))

    def _pieces(self, part: Part) -> Iterator[bytes]:
        state = blake3()
        for piece in self._media.pieces(part, 0, part.size):
            state.update(piece)
            yield piece
        if part.digest is not None and state.digest(DIGEST_BYTES) != part.digest:
            raise SampleError("media_changed", part.name)
