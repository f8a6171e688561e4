"""Checking a shard on disk against what its index says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal, NamedTuple

from blake3 import blake3

from schemas.shards.header import BLOCK
from schemas.shards.reader import walk
from schemas.shards.scan import Reason, Skipped
from schemas.shards.sink import DIGEST_BYTES, feed

_CHUNK = 1 << 20


class Expected(NamedTuple):
    """A member as an index row has it; a digest of None is not compared."""

    name: str
    offset: int
    size: int
    digest: bytes | None = None


class Mismatch(NamedTuple):
    """A difference between a shard and its index.

    `missing`, `unexpected`: a member of this name, offset and size is not in the tar, or not in the index;
    `digest`: its data differ; `shard_digest`: the shard as a whole does; else why the tar cannot be read.
    """

    name: str
    reason: Reason | Literal["missing", "unexpected", "digest", "shard_digest"]
    offset: int


def verify(
    path: str | os.PathLike[str], expected: Iterable[Expected] | None = None, digest: str = ""
) -> list[Mismatch]:
    """Read a whole local shard and compare it with its members' rows, its digest (32 hex digits), or both.

    An empty list means that all is well. Raises OSError where the file cannot be read.
    """
    rows = None if expected is None else {row[:3]: row for row in expected}
    problems: list[Mismatch] = []
    state = blake3()
    end = 0
    with open(path, "rb", buffering=_CHUNK) as file:
        for member in walk(path):
            if isinstance(member, Skipped):
                problems.append(Mismatch(*member))
                continue
            file.seek(end)
            header = file.read(member.offset - end)
            data = blake3()
            for start in range(0, member.size, _CHUNK):
                data.update(file.read(min(_CHUNK, member.size - start)))
            found = data.digest(DIGEST_BYTES)
            feed(state, [header], [found])
            end = file.tell() + -member.size % BLOCK
            if rows is None:
                continue
            row = rows.pop(member, None)
            if row is None:
                problems.append(Mismatch(member.name, "unexpected", member.offset))
            elif row.digest not in (None, found):
                problems.append(Mismatch(member.name, "digest", member.offset))
    problems += [Mismatch(row.name, "missing", row.offset) for row in (rows or {}).values()]
    if digest and state.digest(DIGEST_BYTES).hex() != digest:
        problems.append(Mismatch("", "shard_digest", 0))
    return problems
