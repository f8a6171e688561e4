"""The store: four calls over a local directory or any fsspec file system.

`put_new` publishes a whole object under a name that nobody has taken, atomically; the loser of a race is told so
and uses the winner. That one call is what makes commits safe: there are no locks. On a local disk it is a
temporary file, fsync, `os.link`; elsewhere one conditional write.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import SampleError, StoreError
from schemas.sample import Part

STORE_SCHEME = "store:"


class Found(NamedTuple):
    """One object of a store: path below its root, bytes, and time of last change (seconds since the epoch)."""

    path: str
    size: int
    mtime: float


def is_local(uri: str) -> bool:
    """Whether a URI is a plain path (or file://) of this machine."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> str:
    """The path of a local URI."""
    return uri.removeprefix("file://")


def unwritable(root: str) -> str | None:
    """Why a local root cannot be written, or None. It need not exist yet; remote roots are not asked."""
    if not is_local(root):
        return None
    path = os.path.abspath(local_path(root))
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        return f"{path} is no folder"
    return None if os.access(path, os.W_OK | os.X_OK) else f"{path} cannot be written"


class Store:
    """A root directory (path or fsspec URI) with put_new, read, list and delete."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(local_path(root)) if is_local(root) else root.rstrip("/")
        self.local = is_local(root)
        self._fs: Any = None
        self._base = self.root
        if not self.local:
            self._fs, self._base = filesystem(self.root)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.root,)

    def path(self, name: str) -> str:
        """The full path or URI of an object."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether an object of that name has been published."""
        return os.path.exists(self.path(name)) if self.local else bool(self._fs.exists(f"{self._base}/{name}"))

    def put_new(self, name: str, data: bytes | Path, sync_name: bool = True) -> bool:
        """Publish an object: bytes, or a finished local file (which is consumed). False if the name was taken.

        Its bytes are on the disk when its name is seen. sync_name: and the name itself when this returns; without, a
        power cut may take the object back, which is no loss where it would be made again.
        """
        if self.local:
            return self._put_local(name, data, sync_name)
        payload = data.read_bytes() if isinstance(data, Path) else data
        if isinstance(data, Path):
            data.unlink()
        try:
            self._fs.pipe_file(f"{self._base}/{name}", payload, mode="create")
        except FileExistsError:
            return False
        return True

    def _put_local(self, name: str, data: bytes | Path, sync_name: bool) -> bool:
        target = self.path(name)
        temporary = data if isinstance(data, Path) else self.temporary()
        try:
            with open(temporary, "rb" if isinstance(data, Path) else "wb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                    file.flush()
                os.fsync(file.fileno())
            for attempt in (0, 1):
                try:
                    os.link(temporary, target)
                    break
                except FileNotFoundError:
                    if attempt:
                        raise
                    os.makedirs(os.path.dirname(target), exist_ok=True)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        if sync_name:
            sync_directory(os.path.dirname(target))
        return True

    def put(self, name: str, data: bytes) -> None:
        """Replace a small advisory object (a run's state, a pin). Readers see the old or the new one, whole."""
        if self.local:
            temporary = self.temporary()
            temporary.write_bytes(data)
            os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            os.replace(temporary, self.path(name))
        else:
            self._fs.pipe_file(f"{self._base}/{name}", data)

    def temporary(self) -> Path:
        """A fresh path for a file to be written and then given to `put_new`, on the same file system."""
        directory = f"{self.root}/.tmp" if self.local else os.path.join(os.environ.get("TMPDIR", "/tmp"), "omnicurate")
        os.makedirs(directory, exist_ok=True)
        return Path(directory, uuid.uuid4().hex)

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Bytes of an object. Raises FileNotFoundError."""
        if self.local:
            with open(self.path(name), "rb") as file:
                file.seek(offset)
                return file.read() if size is None else file.read(size)
        end = None if size is None else offset + size
        data: bytes = self._fs.cat_file(f"{self._base}/{name}", start=offset, end=end)
        return data

    def open(self, name: str) -> Any:
        """A seekable binary file for readers such as pyarrow's."""
        return open(self.path(name), "rb") if self.local else self._fs.open(f"{self._base}/{name}", "rb")

    def list(self, prefix: str = "") -> Iterator[Found]:
        """Every object below a folder, in a stable order."""
        if self.local:
            for folder, folders, files in os.walk(self.path(prefix) if prefix else self.root):
                folders.sort()
                for file in sorted(files):
                    full = os.path.join(folder, file)
                    status = os.stat(full)
                    yield Found(os.path.relpath(full, self.root), status.st_size, status.st_mtime)
        else:
            details = self._fs.find(f"{self._base}/{prefix}".rstrip("/"), detail=True)
            for path in sorted(details):
                changed = details[path].get("mtime") or details[path].get("LastModified") or 0
                seconds = changed.timestamp() if hasattr(changed, "timestamp") else float(changed)
                yield Found(path[len(self._base) :].lstrip("/"), details[path]["size"] or 0, seconds)

    def delete(self, name: str) -> None:
        """Remove an object; one that is gone already is no error."""
        try:
            if self.local:
                os.unlink(self.path(name))
            else:
                self._fs.rm_file(f"{self._base}/{name}")
        except FileNotFoundError:
            return


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI, and the path in it. Raises StoreError."""
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise StoreError(f"cannot open {uri}: {error}", "install the fsspec driver of that protocol") from None
    return fs, path.rstrip("/")


def sync_directory(path: str) -> None:
    """fsync a directory, so that a new name in it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_tag(status: os.stat_result) -> str:
    """What identifies a foreign local file's content without reading it: size and mtime in nanoseconds."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def remote_tag(info: dict[str, Any]) -> str:
    """The same for an object elsewhere: its etag, or size and time of last change."""
    found = (
        info.get("ETag") or info.get("etag") or f"{info.get('size')}-{info.get('mtime') or info.get('LastModified')}"
    )
    return str(found).strip('"')


class MediaReader:
    """Reads the bytes of parts: from the store, local files or any fsspec URI; keeps a few files open."""

    _MAX_OPEN = 64

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, tuple[int, str]] = {}
        self._remote_tags: dict[str, str] = {}

    def __call__(self, part: Part) -> bytes:
        """All bytes of a part. Raises SampleError(media_missing | media_changed | media_truncated)."""
        uri = self._store.path(part.uri[len(STORE_SCHEME) :]) if part.uri.startswith(STORE_SCHEME) else part.uri
        data = self._read_local(local_path(uri), part) if is_local(uri) else self._read_remote(uri, part)
        if len(data) != part.size:
            raise SampleError("media_truncated")
        return data

    def handle(self, path: str, tag: str | None) -> int:
        """An open descriptor of a local file whose tag has been checked; do not close it."""
        if path not in self._open:
            if len(self._open) >= self._MAX_OPEN:
                os.close(self._open.pop(next(iter(self._open)))[0])
            try:
                handle = os.open(path, os.O_RDONLY)
            except OSError:
                raise SampleError("media_missing") from None
            self._open[path] = (handle, file_tag(os.fstat(handle)))
        handle, found = self._open[path]
        if tag is not None and tag != found:
            raise SampleError("media_changed", "the file is not what it was when it was indexed")
        return handle

    def _read_local(self, path: str, part: Part) -> bytes:
        return os.pread(self.handle(path, part.tag), part.size, part.offset)

    def _read_remote(self, uri: str, part: Part) -> bytes:
        fs, path = filesystem(uri)
        try:
            if part.tag is not None:
                if uri not in self._remote_tags:
                    self._remote_tags[uri] = remote_tag(fs.info(path))
                if self._remote_tags[uri] != part.tag:
                    raise SampleError("media_changed", "the file is not what it was when it was indexed")
            data: bytes = fs.cat_file(path, start=part.offset, end=part.offset + part.size)
        except FileNotFoundError:
            raise SampleError("media_missing") from None
        return data

    def close(self) -> None:
        """Close the files that are kept open."""
        for handle, _ in self._open.values():
            os.close(handle)
        self._open.clear()
