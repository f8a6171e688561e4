"""Finding published data sets: a folder of versions, each with a manifest, an index and shards."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import DataError, StoreError
from schemas.manifest import FORMAT, INDEX_DIR, LATEST, MANIFEST, REJECTED_DIR, SHARDS_DIR, Manifest
from schemas.store import Store, is_local

_VERSION = re.compile("[0-9a-f]{8}")  # names of versions


def read_manifest(root: str) -> Manifest:
    """The manifest of a version. Raises FileNotFoundError, and StoreError if it is damaged or of another format."""
    raw = Store(root).read(MANIFEST)
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("format",):
            message = f"the manifest of {root} is of format {first['input']!r}; this Omnicurate reads format {FORMAT}"
            remedy = "run the recipe again"
        else:
            message = f"the manifest of {root} is damaged: {first['msg']}"
            remedy = f"remove {MANIFEST} there and run the recipe again"
        raise StoreError(message, f"{remedy}; {root}/{SHARDS_DIR} can be looked at without it") from None


def index_files(root: str, manifest: Manifest) -> list[str]:
    """Paths or URIs of the index: one parquet file for each shard."""
    return [f"{root}/{INDEX_DIR}/{shard.name.removesuffix('.tar')}.parquet" for shard in manifest.shards]


def resolve_version(path: str) -> str | None:
    """The folder of a version: the path, what its `latest` points to, or its only one; None if it is no data set.

    Raises DataError when the path holds several versions without a `latest`, unfinished ones only, or data sets.
    """
    if is_local(path):
        for candidate in (Path(path), Path(path, LATEST)):
            if (candidate / MANIFEST).is_file():
                return str(candidate.resolve())
        return _only_version(path)
    store = Store(path)
    if store.exists(MANIFEST):
        return store.root
    if store.exists(LATEST):
        return store.path(store.read(LATEST).decode())
    return None


def _only_version(path: str) -> str | None:
    folders = list(version_folders(path))
    finished = [folder for folder in folders if (folder / MANIFEST).is_file()]
    here = Path(path).absolute()
    if not folders:
        return None
    if folders == [here]:
        remedy = f"run its recipe again; {path}/{SHARDS_DIR} holds the tars that are there"
        raise DataError(f"{path} has no {MANIFEST}: it is unfinished", remedy)
    sets = sorted({folder.parent for folder in folders} - {here})
    if sets:
        names = [os.path.join(path, folder.relative_to(here)) for folder in sets]
        raise DataError(f"{path} holds data sets; give one of them:", "\n  ".join(names))
    if not finished:
        raise DataError(f"{path} holds no finished version", "run its recipe again")
    if len(finished) > 1:
        newest_first = sorted(finished, key=lambda folder: (folder / MANIFEST).stat().st_mtime, reverse=True)
        names = [os.path.join(path, folder.name) for folder in newest_first]
        raise DataError(f"{path} has no `{LATEST}`; give one of its versions (newest first):", "\n  ".join(names))
    return str(finished[0].resolve())


def version_folders(path: str) -> Iterator[Path]:
    """The folders of versions, finished or not, at or below a local folder, in order; links are not followed."""
    for name, folders, files in os.walk(os.path.abspath(path)):
        folder = Path(name)
        inside = {INDEX_DIR, SHARDS_DIR, REJECTED_DIR} & set(folders)
        if inside and (MANIFEST in files or _VERSION.fullmatch(folder.name)):
            folders.clear()
            yield folder
        folders.sort()
