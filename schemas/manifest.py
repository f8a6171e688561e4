"""The manifest of a published data set: written last, so a data set with one is whole."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

FORMAT: Final = 3
GROUPS_KEY: Final = b"omnicurate.groups"
"""In the metadata of an index file: JSON, for each row group its rows, bytes and the content digests of its columns."""
INDEX_GROUP: Final = 10_000
INDEX_GROUP_BYTES: Final = 256_000_000
"""Rows, and bytes in memory, of a row group of an index file at most: what a later recipe takes as a unit."""
INDEX_DIR, REJECTED_DIR, SHARDS_DIR, MANIFEST, LATEST = (
    "index",
    "rejected",
    "shards",
    "manifest.json",
    "latest",
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shard(_Model):
    """One tar. `digest` is over its headers and part digests, so a range copy needs no read to know it."""

    name: str
    samples: int
    bytes: int
    digest: str
    index_digest: str


class RejectedFile(_Model):
    """One Parquet file below `rejected/`: what the steps of a node rejected. `digest` is over its bytes."""

    name: str
    rows: int
    digest: str


class StepCount(_Model):
    """What a step did: rows in, rows out, rejects by reason.

    left: rows that a mixture did not choose; they are counted, not listed. repeated: rows that it took once more.
    read + repeated == kept + left + all rejects.
    """

    flow: str
    step: str
    use: str
    read: int
    kept: int
    rejected: dict[str, int]
    left: int = 0
    repeated: int = 0


class Share(_Model):
    """How a source of a mixture fared: its size, what its weight asks for, what was taken, what it had too little."""

    source: str
    size: int
    wanted: int
    taken: int
    short: int


class Manifest(_Model):
    """Everything about a data set but its rows."""

    format: Literal[3] = FORMAT
    dataset: str
    version: str
    recipe: dict[str, Any]
    seed: int
    steps: list[StepCount]
    samples: int
    rejected: int
    bytes: int
    shards: list[Shard]
    rejected_files: list[RejectedFile]
    columns: dict[str, str]
    mixtures: dict[str, list[Share]] = {}
    """By flow: the sources of the mixture that it begins with."""
    sources: dict[str, int]
    licenses: dict[str, int]
