"""ingest.files: a folder of media files, with texts and JSON files beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cached_property
from itertools import groupby, islice

from schemas.columns import CANONICAL, Columns
from schemas.digest import canonical_json
from schemas.sample import KINDS, Part, part_name
from stages.base import InputPath, New, Origin, Reject, Source, options
from stages.ingest.fields import ColumnTypes, Fields, infer
from stages.ingest.members import REASONS, is_text, sample_of
from stages.ingest.paths import UNUSABLE, InputFile, find_files, open_file, problems

_EXTENSIONS = frozenset((*KINDS, "txt", "json"))
_LITTER = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini"))  # what Windows leaves in folders of pictures
_UNKNOWN = "unknown_format"
_HEAD_SAMPLES = 1000


@options
class Files(Source):
    """Files whose names differ only in the extension are one sample: `a.jpg`, `a.txt` and `a.json`.

    Images, sound and video become parts called `image`, `audio`, `video`; the text becomes a column; fields of the
    JSON object that have a canonical name become columns, the others stand in `extra`, and so does a field of the name
    that the text takes. These extensions are known: .jpg .jpeg .png .webp .gif .bmp .tif .tiff (images), .wav .flac
    .mp3 .ogg .opus .m4a .aac (sound), .mp4 .avi .mkv .webm .mov (video), .txt and .json. Every other file is rejected
    by its name as `unknown_format`; hidden files, Thumbs.db and desktop.ini are passed over.
    """

    version = 2
    reasons = (*UNUSABLE, *REASONS, _UNKNOWN)

    root: InputPath
    """The folder (all files below it), or a pattern such as `photos/**/*.jpg`."""
    text: str = "text"
    """The column for the content of `.txt` files: `text` or `caption`, or any name that `columns` declares."""
    columns: ColumnTypes | None = None
    """Fields of the JSON files that become columns: name -> type. Left out: those with canonical names."""

    def check(self) -> Iterator[str]:
        """Nothing there, or a text column of another type."""
        yield from problems(self.root, _EXTENSIONS)
        if self.text not in CANONICAL and self.text not in (self.columns or {}):
            yield f"the column {self.text!r} for the texts is not declared: add it to `columns` as string"

    @cached_property
    def _head(self) -> tuple[Fields, tuple[str, ...]]:
        """Columns and parts of the first samples; workers get them with the stage."""
        parts: dict[str, None] = {}
        objects, has_text = [], False
        samples = (files for _, files in self._groups() if not _is_unknown(files[0]))
        for files in islice(samples, _HEAD_SAMPLES):
            names: dict[str, None] = {}
            for file in files:
                extension = _extension(file)
                if not is_text(extension):
                    names[part_name(extension, names)] = None
                elif extension == "json" and self.columns is None and file.tag:
                    with open_file(file.uri) as handle:
                        objects.append(handle.read())
                has_text |= extension == "txt"
            parts.update(names)
        kinds = dict(self.columns or {})
        if self.columns is None:
            found = (_object(data) for data in objects)
            kinds = infer((row for row in found if row is not None), only=CANONICAL)
        if has_text:
            kinds.setdefault(self.text, "string")
        return Fields(kinds), tuple(parts)

    def writes(self) -> Columns:
        """Columns and parts as the first samples have them."""
        fields, parts = self._head
        return Columns(fields.types(), parts=parts)

    def _groups(self) -> Iterator[tuple[str, list[InputFile]]]:
        """The files of each sample. A file of an unknown format is alone, under its whole name."""
        files = [file for file in find_files(self.root) if file.name.rpartition("/")[2].lower() not in _LITTER]
        files.sort(key=lambda file: (_stem(file), _is_unknown(file), file.name))
        for (stem, _), group in groupby(files, key=lambda file: (_stem(file), _is_unknown(file))):
            yield stem, list(group)

    def origins(self) -> Iterator[Origin]:
        """One for each sample; the tag holds extension, size and state of each of its files."""
        for stem, files in self._groups():
            if _is_unknown(files[0]):
                yield Origin(stem, files[0].uri, _UNKNOWN, many=False)
            elif all(file.tag for file in files):
                states = [[os.path.splitext(file.uri)[1][1:], file.size, file.tag] for file in files]
                yield Origin(stem, os.path.splitext(files[0].uri)[0], canonical_json(states), many=False)
            else:
                yield Origin(stem, min(file.uri for file in files), "", many=False)

    def read(self, origin: Origin) -> Iterator[New | Reject]:
        """The sample."""
        if not origin.tag:
            yield Reject("missing_file" if origin.uri else "name_not_utf8")
            return
        if origin.tag == _UNKNOWN:
            yield Reject(_UNKNOWN, os.path.splitext(origin.name)[1])
            return
        files: dict[str, Part] = {}
        for extension, size, tag in json.loads(origin.tag):
            lower = extension.lower()
            if lower in files:
                yield Reject("duplicate_part", lower)
                return
            files[lower] = Part("", lower, f"{origin.uri}.{extension}", 0, size, tag=tag)
        yield sample_of(files, _read, self._head[0], self.text, origin.name)


def _read(part: Part) -> bytes:
    with open_file(part.uri) as file:
        return file.read()


def _extension(file: InputFile) -> str:
    return os.path.splitext(file.name)[1][1:].lower()


def _stem(file: InputFile) -> str:
    return file.name if _is_unknown(file) else os.path.splitext(file.name)[0]


def _is_unknown(file: InputFile) -> bool:
    return bool(file.uri) and _extension(file) not in _EXTENSIONS


def _object(data: bytes) -> dict[str, object] | None:
    from stages.ingest.jsonl import parse_object

    value = parse_object(data)
    return value if isinstance(value, dict) else None
