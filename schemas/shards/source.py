"""Byte ranges of local files, and the descriptors that they are read through."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from schemas.errors import DataError

_CHUNK = 1 << 20  # bytes per step of a copy that goes through memory
_MAX_OPEN = 32
_NO_KERNEL_COPY = {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ETXTBSY}


class Range(NamedTuple):
    """Bytes of a local file."""

    path: str
    offset: int
    size: int


class Sources:
    """Reads and copies ranges; keeps the files that were used last open. For one thread."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def read(self, part: Range) -> bytes:
        """The bytes of a range. Raises DataError where the file is shorter than the range says."""
        data = os.pread(self._open(part.path), part.size, part.offset)
        if len(data) == part.size:
            return data
        return data + b"".join(self.chunks(part, len(data)))  # pread stops at 2 GiB

    def chunks(self, part: Range, done: int = 0) -> Iterator[bytes]:
        """The bytes of a range from its `done`-th on, a MiB at a time. Raises like `read`."""
        while done < part.size:
            chunk = os.pread(self._open(part.path), min(_CHUNK, part.size - done), part.offset + done)
            if not chunk:
                raise _too_short(part)
            done += len(chunk)
            yield chunk

    def copy(self, part: Range, target: int, offset: int) -> None:
        """Copy a range to `offset` of another open file, in the kernel where it can. Raises like `read`."""
        done = _kernel_copy(self._open(part.path), part, target, offset)
        for chunk in self.chunks(part, done):
            write_all(target, chunk, offset + done)
            done += len(chunk)

    def close(self) -> None:
        """Close what is open. May be called again."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _open(self, path: str) -> int:
        file = self._files.pop(path, -1)
        if file < 0:
            if len(self._files) >= _MAX_OPEN:
                os.close(self._files.pop(next(iter(self._files))))
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._files[path] = file  # the newest is last
        return file


def write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    """pwrite until everything is written: one call stops at 2 GiB, and may stop before."""
    done = os.pwrite(file, data, offset)
    while done < len(data):
        done += os.pwrite(file, memoryview(data)[done:], offset + done)


def _kernel_copy(source: int, part: Range, target: int, offset: int) -> int:
    """Bytes copied by copy_file_range: all, or fewer where the file systems or the platform cannot."""
    done = 0
    if not hasattr(os, "copy_file_range"):
        return done
    while done < part.size:
        try:
            step = os.copy_file_range(source, target, part.size - done, part.offset + done, offset + done)
        except OSError as error:
            if error.errno in _NO_KERNEL_COPY:
                return done
            raise
        if step == 0:  # the end of the source; some file systems also say so when they mean "not here"
            return done
        done += step
    return done


def _too_short(part: Range) -> DataError:
    return DataError(
        f"{part.path} ends before byte {part.offset + part.size}",
        "it changed after it was indexed: ingest it again",
    )
