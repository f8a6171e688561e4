"""ingest.transcribed_audio: a folder of recordings and one file with their transcripts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import Field

from schemas.columns import CANONICAL, Columns
from schemas.digest import digest
from schemas.sample import KINDS, Part
from stages.base import InputPath, New, Origin, Reject, Source, options
from stages.ingest.paths import UNUSABLE, find_files, open_file, problems, stat_file

_AUDIO = frozenset(extension for extension, kind in KINDS.items() if kind == "audio")


class Transcripts(NamedTuple):
    """Texts by key, and the lines that give none: by key or `line-000012`, with the reason."""

    texts: dict[str, str]
    broken: dict[str, str]


def parse_transcripts(data: bytes, separator: str) -> Transcripts:
    """Lines of `key: text`; lines that begin with `;` and blank ones are passed over.

    A line is split at the first separator. An audio extension at the end of a key does not count.
    """
    texts: dict[str, str] = {}
    broken: dict[str, str] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip() or line.lstrip().startswith(b";"):
            continue
        name = f"line-{number:06d}"
        try:
            key, found, text = line.decode().partition(separator)
        except UnicodeDecodeError:
            broken[name] = "not_utf8"
            continue
        key = audio_key(key.strip())
        if not found or not key:
            broken[name] = "no_separator"
        elif key in texts:
            broken[name] = "duplicate_transcript"
        else:
            texts[key] = text.strip()
    return Transcripts(texts, broken)


def audio_key(name: str) -> str:
    """A file's name without its audio extension."""
    stem, extension = os.path.splitext(name)
    return stem if extension[1:].lower() in _AUDIO else name


@lru_cache(maxsize=4)
def _transcripts(uri: str, tag: str, separator: str) -> Transcripts:
    """Parsed once in each process: in the stage itself, it would travel with every unit of work."""
    with open_file(uri) as file:
        return parse_transcripts(file.read(), separator)


@options
class TranscribedAudio(Source):
    """Recordings below a folder; a text file holds a line `key: text` for each, the key being its path there.

    A recording without a text and a text without a recording are rejected by name.
    """

    reasons = (
        *UNUSABLE,
        "missing_audio",
        "missing_transcript",
        "duplicate_audio",
        "duplicate_transcript",
        "no_separator",
        "not_utf8",
    )

    root: InputPath
    """The folder of the recordings; `digits/1.wav` below it has the key `digits/1`."""
    transcripts: InputPath
    """The text file, in UTF-8. Lines that begin with `;` are comments."""
    separator: Annotated[str, Field(min_length=1)] = ":"
    """What stands between key and text; the first one counts."""

    def check(self) -> Iterator[str]:
        """Nothing there."""
        yield from problems(self.root, _AUDIO)
        yield from problems(self.transcripts)

    def writes(self) -> Columns:
        """The transcript and the recording."""
        return Columns({"text": CANONICAL["text"]}, parts=("audio",))

    def _parsed(self) -> Transcripts:
        return _transcripts(self.transcripts, stat_file(self.transcripts)[1], self.separator)

    def origins(self) -> Iterator[Origin]:
        """One for each recording and each line without one; the state of its line is part of a recording's tag."""
        texts, broken = self._parsed()
        found: dict[str, Origin] = {}
        for file in find_files(self.root, _AUDIO):
            key = audio_key(file.name)
            name = file.name if key in found else key
            line = digest(texts[key].encode()).hex()[:16] if key in texts else ""
            tag = f"{line}:{file.tag}" if file.tag else ""
            found[name] = Origin(name, file.uri, tag, many=False)
        for key in texts.keys() - found.keys():
            found[key] = Origin(key, self.transcripts, "missing_audio", many=False)
        for name, reason in broken.items():
            found[name] = Origin(name, self.transcripts, reason, many=False)
        yield from sorted(found.values())

    def read(self, origin: Origin) -> Iterator[New | Reject]:
        """The sample."""
        if not origin.tag:
            yield Reject("missing_file" if origin.uri else "name_not_utf8")
            return
        if origin.uri == self.transcripts:
            yield Reject(origin.tag)
            return
        key = audio_key(origin.name)
        if key != origin.name:
            yield Reject("duplicate_audio", "another recording has the same key")
            return
        text = self._parsed().texts.get(key)
        if text is None:
            yield Reject("missing_transcript")
            return
        tag = origin.tag.partition(":")[2]
        size = int(tag.partition("-")[0]) if "://" not in origin.uri else stat_file(origin.uri)[0]
        extension = os.path.splitext(origin.uri)[1][1:].lower()
        yield New({"text": text}, parts={"audio": Part("audio", extension, origin.uri, 0, size, tag=tag)})
