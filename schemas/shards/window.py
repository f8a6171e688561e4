"""Positioned reads from a path or a file object, through one buffer whose size follows the members' sizes."""

from __future__ import annotations

import os
from typing import BinaryIO

from schemas.errors import DataError

LARGE = 2 << 20  # bytes read at once where members are small: one read holds many headers
SMALL = 4 << 10  # ... and where they are large: their data are passed over
_LARGE_MEMBER = 32 << 10

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class Window:
    """`buffer` holds the bytes of the file from `base` on. `size` is the file's, in bytes.

    Raises DataError for a compressed file: its offsets would mean nothing.
    """

    def __init__(self, file: str | os.PathLike[str] | BinaryIO) -> None:
        self._file: BinaryIO | None = None
        self._descriptor = -1
        if isinstance(file, (str, os.PathLike)):
            self.name = os.fspath(file)
            self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._descriptor).st_size
        else:
            self.name = str(getattr(file, "name", "") or getattr(file, "path", "") or "the file object")
            self._file = file
            self.size = file.seek(0, os.SEEK_END)
        self.base = 0
        self.buffer = self.read(0, SMALL)
        self._mean = 0.0
        for magic, method in _COMPRESSED.items():
            if self.buffer.startswith(magic):
                self.close()
                raise DataError(
                    f"{self.name} is compressed with {method}",
                    "samples are byte ranges of a plain tar: unpack it first",
                )

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file, past the buffer; fewer only at its end."""
        if self._file is None:
            data = os.pread(self._descriptor, size, offset)
        else:
            self._file.seek(offset)
            data = self._file.read(size)
        if len(data) == size or offset + len(data) >= self.size:
            return data
        rest = self.read(offset + len(data), size - len(data)) if data else b""  # raw files may stop short
        return data + rest

    def view(self, offset: int, need: int) -> memoryview:
        """What the buffer holds from `offset` on, filled anew where that is less than `need` bytes."""
        start = offset - self.base
        if start < 0 or start + need > len(self.buffer):
            self.buffer = self.read(offset, max(need, SMALL if self._mean > _LARGE_MEMBER else LARGE))
            self.base, start = offset, 0
        return memoryview(self.buffer)[start:]

    def take(self, offset: int, size: int) -> bytes:
        """Bytes of the file, through the buffer; fewer only at its end."""
        return bytes(self.view(offset, size)[:size])

    def passed(self, span: int, members: int) -> None:
        """Say that `members` took `span` bytes, so that the next reads fit."""
        self._mean += (span / members - self._mean) * min(1.0, members / 8)

    def close(self) -> None:
        """Close what was opened here; a file object stays open. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
