"""What all forms of export have in common."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TextIO

from pipelines.export.media import MediaFolder
from pipelines.export.rows import Row


@dataclass(frozen=True)
class Options:
    """What some forms can be told.

    text: dotted path of the transcript. speaker: dotted path of who speaks. inline: media within the text file.
    """

    text: str | None = None
    speaker: str | None = None
    inline: bool = False


class Form:
    """A form in which samples are written to a folder that appears when all of them are there."""

    takes: ClassVar[frozenset[str]] = frozenset()
    """The names of the options that it understands."""

    def __init__(self, folder: Path, media: MediaFolder, options: Options, files: ExitStack) -> None:
        """files: closes what the form opens, when all is written or something fails."""
        self.folder = folder
        self.media = media
        self.options = options
        self.files = files

    def text_file(self, name: str) -> TextIO:
        """A new file in the folder, for UTF-8."""
        file = open(self.folder / name, "w", encoding="utf-8")  # noqa: SIM115 - `files` closes it
        return self.files.enter_context(file)

    def add(self, row: Row) -> None:
        """Write a sample. Raises SampleError, having written nothing of it, where that cannot be."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what comes after the last sample."""
