"""ingest.dataset: the samples of a published data set."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import LINEAGE, RESERVED, Columns
from schemas.errors import OmnicurateError, StoreError
from schemas.manifest import GROUPS_KEY, SHARDS_DIR
from schemas.published import index_files, read_manifest, resolve_version
from schemas.store import is_local, local_path
from stages.base import Group, Indexed, InputPath, options
from stages.ingest.paths import open_file


@options
class Dataset(Indexed):
    """The samples of a published data set, with all their columns, parts and keys. Nothing is copied or read before.

    A folder of versions stands for the version that `latest` names when the run starts. The column `lineage` says from
    which version each sample came.
    """

    path: InputPath
    """Folder or URI of a data set, or of one of its versions."""

    def check(self) -> Iterator[str]:
        """No data set there, or a damaged one."""
        try:
            self._groups  # noqa: B018 - reads the footers of all index files
            if is_local(self.root):
                for shard in read_manifest(self.root).shards:
                    path = local_path(f"{self.root}/{SHARDS_DIR}/{shard.name}")
                    if not os.path.exists(path) or os.path.getsize(path) != shard.bytes:
                        yield f"{path} is missing, or not of the size that was published"
        except FileNotFoundError as error:
            yield f"{error.filename or error} is missing"
        except pa.ArrowException as error:
            yield f"the index of {self.root} is damaged: {error}"
        except (OmnicurateError, OSError) as error:
            yield str(error)

    @cached_property
    def root(self) -> str:
        """The folder of the version."""
        found = resolve_version(self.path)
        if found is None:
            raise OmnicurateError(f"there is no published data set at {self.path}")
        return found

    @cached_property
    def _groups(self) -> tuple[pa.Schema, list[Group]]:
        schemas, groups = [], []
        for uri in index_files(self.root, read_manifest(self.root)):
            with open_file(uri) as file:
                metadata = pq.read_metadata(file)
            schemas.append(metadata.schema.to_arrow_schema().remove_metadata())
            if GROUPS_KEY not in (metadata.metadata or {}):
                raise StoreError(f"{uri} does not say what it holds", "run the recipe of that data set again")
            for number, found in enumerate(json.loads(metadata.metadata[GROUPS_KEY])):
                groups.append(Group(uri, number, found["rows"], found["bytes"], found["digests"]))
        return pa.unify_schemas(schemas), groups

    def groups(self) -> list[Group]:
        """The row groups of all index files."""
        return self._groups[1]

    def writes(self) -> Columns:
        """What the index has."""
        schema, groups = self._groups
        types = {field.name: field.type for field in schema if field.name not in RESERVED}
        names = sorted({leaf for group in groups for leaf in group.digests if leaf.startswith("parts.")})
        parts = tuple(name.removeprefix("parts.") for name in names)
        return Columns({**types, "lineage": LINEAGE}, parts=parts, shared=True)
