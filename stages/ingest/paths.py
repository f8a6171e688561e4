"""Finding input files: a file, a folder, a pattern or a URI becomes a sorted list of files with their states."""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, BinaryIO, NamedTuple

from schemas.store import file_tag, is_local, local_path, remote_tag
from stages.base import Origin, Reject

UNUSABLE = ("missing_file", "name_not_utf8")
"""The reject reasons of `unusable`."""

_MAGIC = re.compile(r"[*?\[]")


class InputFile(NamedTuple):
    """A file: its name below the root that was given (with /), where it is, its bytes and its state.

    A file that cannot be opened (a link to nothing, a name that is not UTF-8) has an empty tag.
    """

    name: str
    uri: str
    size: int
    tag: str

    @property
    def stem(self) -> str:
        """The name without its extension (and without .gz)."""
        return os.path.splitext(self.name.removesuffix(".gz"))[0]

    def origin(self, start: int = 0, end: int = 0, many: bool = True) -> Origin:
        """The file, or a range of it, as a piece of input."""
        return Origin(self.name, self.uri, self.tag, start, end, many)


def unusable(origin: Origin) -> Reject | None:
    """Why an origin cannot be read, if it cannot."""
    if origin.tag:
        return None
    return Reject("missing_file" if origin.uri else "name_not_utf8")


def find_files(path: str, extensions: Collection[str] = ()) -> list[InputFile]:
    """The files that a path means, sorted by name.

    path: a file; a folder, meaning all files below it that have one of the extensions (lower case, without a dot;
    none given: every file); or a pattern with * ? [] and **. Hidden files and folders are passed over.
    Raises FileNotFoundError where there is nothing of that name.
    """
    return sorted(_look(path, extensions))


def _look(path: str, extensions: Collection[str]) -> Iterator[InputFile]:
    return _local(local_path(path), extensions) if is_local(path) else _remote(path, extensions)


def problems(path: str, extensions: Collection[str] = ()) -> Iterator[str]:
    """What is wrong with an input path, for `check()`."""
    try:
        if is_local(path) and os.path.isfile(local_path(path)):
            return
        if next(_look(path, extensions), None) is None:
            kinds = ", ".join(f".{extension}" for extension in sorted(extensions))
            yield f"no files{f' ({kinds})' if kinds else ''} in {path}"
    except FileNotFoundError:
        yield f"there is no {path}"
    except (OSError, ImportError, ValueError) as error:
        yield f"cannot look into {path}: {error}"


def _wanted(name: str, extensions: Collection[str]) -> bool:
    lower = name.lower()
    return not extensions or any(lower.endswith(f".{extension}") for extension in extensions)


def _local(path: str, extensions: Collection[str]) -> Iterator[InputFile]:
    if os.path.isdir(path):
        for folder, folders, files in os.walk(path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if not name.startswith(".") and _wanted(name, extensions):
                    full = os.path.join(folder, name)
                    yield _local_file(os.path.relpath(full, path), full)
    elif os.path.lexists(path) or not _MAGIC.search(path):
        os.stat(path)
        yield _local_file(os.path.basename(path), path)
    else:
        root = os.path.dirname(path[: _MAGIC.search(path).start()])  # type: ignore[union-attr]
        for full in glob.iglob(path, recursive=True):
            if os.path.isfile(full) or not os.path.exists(full):
                yield _local_file(os.path.relpath(full, root), full)


def _local_file(name: str, path: str) -> InputFile:
    name = name.replace(os.sep, "/")
    try:
        name.encode()
    except UnicodeEncodeError:
        return InputFile(os.fsencode(name).decode("utf-8", "backslashreplace"), "", 0, "")
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return InputFile(name, path, 0, "")
    return InputFile(name, path, status.st_size, file_tag(status))


def _remote(uri: str, extensions: Collection[str]) -> Iterator[InputFile]:
    fs, base = _filesystem(uri)
    if _MAGIC.search(base) and not fs.exists(base):
        root = base[: _MAGIC.search(base).start()].rpartition("/")[0]  # type: ignore[union-attr]
        details = fs.glob(base, detail=True)
    elif fs.isdir(base):
        root, details = base, fs.find(base, detail=True)
        details = {path: info for path, info in details.items() if _wanted(path, extensions)}
    else:
        root, details = base.rpartition("/")[0], {base: fs.info(base)}
    for path, info in details.items():
        name = path[len(root) :].lstrip("/")
        if info["type"] == "file" and not any(step.startswith(".") for step in name.split("/")):
            yield InputFile(name, fs.unstrip_protocol(path), info["size"] or 0, remote_tag(info))


def _filesystem(uri: str) -> tuple[Any, str]:
    import fsspec

    fs, path = fsspec.core.url_to_fs(uri)
    return fs, path


def stat_file(uri: str) -> tuple[int, str]:
    """Size and tag of a file. Raises FileNotFoundError."""
    if is_local(uri):
        status = os.stat(local_path(uri))
        return status.st_size, file_tag(status)
    fs, path = _filesystem(uri)
    info = fs.info(path)
    return info["size"] or 0, remote_tag(info)


def open_file(uri: str) -> BinaryIO:
    """A file for reading bytes, seekable. Raises OSError."""
    if is_local(uri):
        return open(local_path(uri), "rb")
    fs, path = _filesystem(uri)
    return fs.open(path, "rb")


def range_reader(file: BinaryIO) -> Callable[[int, int], bytes]:
    """A function (offset, size) -> bytes of an open file; positioned reads where the file is a local one."""
    try:
        descriptor = file.fileno()
    except (OSError, AttributeError, io.UnsupportedOperation):

        def read(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        return read
    return lambda offset, size: os.pread(descriptor, size, offset)
