"""ingest.webdataset: the samples of WebDataset tars, ours and everybody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from typing import TypeAlias, get_args

from schemas.columns import CANONICAL, Columns
from schemas.errors import DataError
from schemas.sample import Part, part_name
from schemas.shards.reader import SampleMembers, samples, walk
from schemas.shards.scan import Reason, Skipped
from schemas.store import is_local, local_path
from stages.base import InputPath, New, Origin, Reject, Source, options
from stages.ingest.fields import ColumnTypes, Fields, infer
from stages.ingest.jsonl import parse_object
from stages.ingest.members import REASONS, is_text, sample_of
from stages.ingest.paths import UNUSABLE, InputFile, find_files, open_file, problems, range_reader, unusable

_HEAD_SAMPLES = 100  # of each of the three tars that are looked into
_HEAD_TARS = 10  # empty and broken ones are passed over
_Found: TypeAlias = tuple[SampleMembers, Callable[[int, int], bytes]]
_READER_REASONS: tuple[str, ...] = get_args(Reason)


@options
class WebDataset(Source):
    """Members of a tar whose names agree up to the first dot are one sample; media stay where they are.

    Fields of `.json` members that have a canonical name become columns, the others stand in `extra`; `.txt` (or
    `.cls`) is a text, before a JSON field of that name, which then stands in `extra`; everything else is a part, called
    `image`, `audio` or `video`, or by its extension. A broken tar gives the samples that are whole and one reject; what
    is no file is rejected too, so that nothing is lost unseen.
    """

    version = 2
    reasons = (*UNUSABLE, *REASONS, *_READER_REASONS, "compressed_tar")

    path: InputPath
    """A tar, a folder (all tars below it), a pattern such as `shards/*.tar`, or a URI."""
    text: str = "text"
    """The column for the content of `.txt` and `.cls` members: `text`, `caption`, or a name that `columns` declares."""
    columns: ColumnTypes | None = None
    """Fields of the JSON members that become columns: name -> type. Left out: those with canonical names that the
    first samples of the first, the middle and the last tar have; what only others have stands in `extra`."""

    def check(self) -> Iterator[str]:
        """Nothing there, or a text column of another type."""
        yield from problems(self.path, ("tar",))
        if self.text not in CANONICAL and self.text not in (self.columns or {}):
            yield f"the column {self.text!r} for the texts is not declared: add it to `columns` as string"

    @cached_property
    def _head(self) -> tuple[Fields, tuple[str, ...]]:
        """Columns and parts of the first samples of three tars; workers get them with the stage."""
        parts: dict[str, None] = {}
        rows, has_text = [], False
        for sample, read in self._first():
            names: dict[str, None] = {}
            for extension, member in sample.members.items():
                if not is_text(extension):
                    names[part_name(extension, names)] = None
                elif extension == "json":
                    row = parse_object(read(member.offset, member.size))
                    rows += [row] if isinstance(row, dict) else []
                has_text |= extension in ("txt", "cls")
            parts.update(names)
        kinds = dict(self.columns) if self.columns is not None else infer(rows, only=CANONICAL)
        if has_text:
            kinds.setdefault(self.text, "string")
        return Fields(kinds), tuple(parts)

    def _first(self) -> Iterator[_Found]:
        """The first samples of the first, the middle and the last tar; of the next one where a tar gives none."""
        files = [file for file in find_files(self.path, ("tar",)) if file.tag]
        tried: set[int] = set()
        for start in (0, len(files) // 2, max(0, len(files) - 1)):
            for index in range(start, min(start + _HEAD_TARS, len(files))):
                if index in tried:
                    break
                tried.add(index)
                empty = True
                for found in islice(_whole_samples(files[index]), _HEAD_SAMPLES):
                    empty = False
                    yield found
                if not empty:
                    break

    def writes(self) -> Columns:
        """Columns and parts as the first samples have them."""
        fields, parts = self._head
        return Columns(fields.types(), parts=parts)

    def origins(self) -> Iterator[Origin]:
        """One for each tar."""
        for file in find_files(self.path, ("tar",)):
            yield file.origin()

    def read(self, origin: Origin) -> Iterator[New | Reject]:
        """The samples of a tar. Their keys are the tar's own."""
        bad = unusable(origin)
        if bad:
            yield bad
            return
        fields = self._head[0]
        with open_file(origin.uri) as file:
            ranges = range_reader(file)

            def read(part: Part) -> bytes:
                return ranges(part.offset, part.size)

            try:
                for found in samples(walk(local_path(origin.uri) if is_local(origin.uri) else file)):
                    if isinstance(found, Skipped):
                        yield Reject(found.reason, key=found.name or origin.name)
                    elif found.problems:
                        yield Reject(found.problems[0].reason, key=found.key)
                    else:
                        members = found.members.items()
                        files = {
                            extension: Part("", extension.rsplit(".", 1)[-1], origin.uri, *member[1:], tag=origin.tag)
                            for extension, member in members
                        }
                        yield sample_of(files, read, fields, self.text, found.key)
            except DataError:
                yield Reject("compressed_tar", "samples are ranges of a plain tar: unpack it first")


def _whole_samples(file: InputFile) -> Iterator[_Found]:
    """The samples of a tar that have no problems, each with a function (offset, size) -> bytes."""
    with open_file(file.uri) as handle:
        try:
            for found in samples(walk(local_path(file.uri) if is_local(file.uri) else handle)):
                if isinstance(found, SampleMembers) and not found.problems:
                    yield found, range_reader(handle)
        except DataError:
            pass
