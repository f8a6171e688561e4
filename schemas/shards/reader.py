"""Reading shards: their headers only (`walk`), samples of them (`samples`), or every sample's bytes.

What others put into tars is met here: whatever cannot be a part of a sample is named, with a reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from schemas.errors import DataError
from schemas.shards.scan import BROKEN, Member, Reason, Skipped, TruncatedShard, scan
from schemas.shards.window import Window


class SampleMembers(NamedTuple):
    """The members of one sample by extension (lower case). With problems, it must not be used as it is."""

    key: str
    members: dict[str, Member]
    problems: list[Skipped]


def walk(file: str | os.PathLike[str] | BinaryIO) -> Iterator[Member | Skipped]:
    """The members of a tar, in order, without their data; the file object needs `read` and `seek`.

    A tar that breaks yields all that is whole, then one Skipped with a reason of BROKEN, named after the
    member that was hit if its header is readable. A tar without the zero block at its end is truncated.
    Raises DataError for a compressed tar and OSError where the file cannot be read.
    """
    window = Window(file)
    try:
        for found in scan(window):
            if isinstance(found, Skipped):
                yield found
            else:
                yield from map(Member, found.names, found.starts, found.sizes)
    finally:
        window.close()


def read_samples(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a local shard, (key, {extension: bytes}), grouped as by `samples`.

    Members that are no files or have no extension are passed over. Raises TruncatedShard after the last
    sample that is surely whole, and DataError for an extension that a sample has twice.
    """
    window = Window(path)
    key, sample = "", dict[str, bytes]()
    usual = set[str]()
    try:
        for found in scan(window):
            if isinstance(found, Skipped):
                if found.reason not in BROKEN:
                    continue
                whole = found.reason == "trailing_data" or split_name(found.name)[0] not in ("", key)
                if sample and whole:  # what broke is not this sample
                    yield key, sample
                raise TruncatedShard(window.name, found.offset, found.reason)
            buffer, base = window.buffer, window.base
            for name, start, size in zip(found.names, found.starts, found.sizes, strict=True):
                head, _, extension = name.partition(".")
                if head != key or extension not in usual:
                    # split_name says the same for an extension that it gave before and a common sort of key
                    if extension not in usual or not head or head[-1] == "/" or head[0] == "_":
                        head, extension = split_name(name)
                        if not head:
                            continue
                        usual.add(extension)
                    if head != key:
                        if sample:
                            yield key, sample
                        key, sample = head, {}
                if extension in sample:
                    raise DataError(f"{window.name} holds {name} twice", "`samples` tells such samples apart")
                at = start - base
                data = buffer[at : at + size]
                sample[extension] = data if len(data) == size else window.read(start, size)
        if sample:
            yield key, sample
    finally:
        window.close()


def samples(members: Iterable[Member | Skipped]) -> Iterator[SampleMembers | Skipped]:
    """Group adjacent members of one key (see `split_name`), as WebDataset does; what is skipped passes
    through.

    Problems of a sample: `duplicate_key` where it has an extension twice (the first one stands) or its key
    was seen before in this shard, and the break of the tar where that hit the sample, or may have. Members
    without an extension come out as Skipped. A broken tar gives exactly one problem or Skipped with a reason
    of BROKEN.
    """
    seen: set[str] = set()
    sample: SampleMembers | None = None
    for member in members:
        key, extension = split_name(member.name)
        if isinstance(member, Skipped):
            # Nobody can tell whether more of the open sample was to come, unless another one's name is known.
            if sample and member.reason in ("truncated", "bad_header") and key in ("", sample.key):
                sample.problems.append(member)
            else:
                yield member
            continue
        if not key:
            reason: Reason = "metadata" if is_metadata(member.name) else "no_extension"
            yield Skipped(member.name, reason, member.offset)
            continue
        if sample is None or key != sample.key:
            if sample:
                yield sample
            sample = SampleMembers(key, {}, [])
            if key in seen:
                sample.problems.append(Skipped(member.name, "duplicate_key", member.offset))
            seen.add(key)
        if extension in sample.members:
            sample.problems.append(Skipped(member.name, "duplicate_key", member.offset))
        else:
            sample.members[extension] = member
    if sample:
        yield sample


def split_name(name: str) -> tuple[str, str]:
    """(key, extension) of a member: its name split at the first dot of the base name.

    ("", "") where there is no such dot, and for what WebDataset passes over, see `is_metadata`.
    """
    dot = name.find(".", name.rfind("/") + 1)
    if dot < 1 or name[dot - 1] == "/" or dot == len(name) - 1 or is_metadata(name):
        return "", ""
    return name[:dot], name[dot + 1 :].lower()


def is_metadata(name: str) -> bool:
    """Whether WebDataset takes the member for a note about the shard: `__…__` is its first component."""
    first = name.partition("/")[0]
    return len(first) >= 4 and first.startswith("__") and first.endswith("__")
