"""Speech with transcripts: Kaldi's folders and NeMo's manifests."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from pipelines.export.form import Form, Options
from pipelines.export.jsonfile import JsonLines
from pipelines.export.media import MediaFolder, file_stem
from pipelines.export.rows import Row
from schemas.errors import MissingExtra, SampleError


class Utterance(NamedTuple):
    """A recording that has been copied, its length in seconds, and what is said in it."""

    path: str
    duration: float
    text: str


class _Speech(Form):
    takes = frozenset({"text"})

    def utterance(self, row: Row) -> Utterance:
        """Copy the recording. Raises SampleError(no_text, no_audio, many_audio, undecodable_audio)."""
        text = row.text(self.options.text or "text")
        if not text.strip():
            raise SampleError("no_text")
        found = row.media("audio")
        chosen = [part for part in found if part.name == "audio"] or found
        if len(chosen) != 1:
            raise SampleError("many_audio" if chosen else "no_audio")
        path = self.media.copy(row.key, row.whole("audio", chosen[0].name))
        duration = row.value("duration")
        return Utterance(path, _seconds(self.folder / path) if duration is None else duration, text)


def _seconds(path: Path) -> float:
    try:
        import soundfile
    except ModuleNotFoundError:
        raise MissingExtra("soundfile", "audio") from None
    try:
        return float(soundfile.info(path).duration)
    except soundfile.LibsndfileError:
        raise SampleError("undecodable_audio") from None


_KALDI_FILES: Final = {"wav.scp": "path", "text": "text", "utt2spk": "speaker", "utt2dur": "duration"}


class Kaldi(_Speech):
    """`wav.scp`, `text`, `utt2spk`, `spk2utt`, `utt2dur`: sorted by bytes, paths relative to the folder.

    Utterances are called after their keys, with the speaker in front where `speaker` is given, as Kaldi wants it.
    """

    takes = frozenset({"text", "speaker"})

    def __init__(self, folder: Path, media: MediaFolder, options: Options, files: ExitStack) -> None:
        super().__init__(folder, media, options, files)
        # On disk: a large corpus has more lines than memory, and SQLite sorts texts by bytes, as the C locale does.
        self._path = folder / "lines.sqlite"
        self._lines = files.enter_context(closing(sqlite3.connect(self._path, isolation_level=None)))
        self._lines.execute("PRAGMA journal_mode = OFF")
        self._lines.execute("PRAGMA synchronous = OFF")
        columns = "id TEXT PRIMARY KEY, path TEXT, text TEXT, speaker TEXT, duration TEXT"
        self._lines.execute(f"CREATE TABLE lines ({columns}) WITHOUT ROWID")
        self._lines.execute("BEGIN")

    def add(self, row: Row) -> None:
        """One utterance."""
        name = speaker = file_stem(row.key)
        if self.options.speaker is not None:
            if not row.text(self.options.speaker):
                raise SampleError("no_speaker")
            speaker = file_stem(row.text(self.options.speaker))
            name = f"{speaker}-{name}"
        path, duration, text = self.utterance(row)
        line = (name, path, " ".join(text.split()), speaker, f"{duration:.6f}")
        if not self._lines.execute("INSERT OR IGNORE INTO lines VALUES (?, ?, ?, ?, ?)", line).rowcount:
            raise SampleError("duplicate_key")

    def finish(self) -> None:
        """Write the files, sorted."""
        for name, column in _KALDI_FILES.items():
            lines = self._lines.execute(f"SELECT id, {column} FROM lines ORDER BY id")
            self.text_file(name).writelines(f"{line[0]} {line[1]}\n" for line in lines)
        pairs = self._lines.execute("SELECT speaker, id FROM lines ORDER BY speaker, id")
        spk2utt = self.text_file("spk2utt")
        for speaker, utterances in groupby(pairs, itemgetter(0)):
            spk2utt.write(" ".join([speaker, *(name for _, name in utterances)]) + "\n")
        self._path.unlink()


class Nemo(_Speech):
    """`manifest.jsonl`: recordings with length and transcript, and every other single value that is known."""

    def __init__(self, folder: Path, media: MediaFolder, options: Options, files: ExitStack) -> None:
        super().__init__(folder, media, options, files)
        self._lines = JsonLines(self.text_file("manifest.jsonl"))

    def add(self, row: Row) -> None:
        """One line."""
        path, duration, text = self.utterance(row)
        own = {"id": row.key, "audio_filepath": path, "duration": duration, "text": text}
        others = {name: value for name, value in row.scalars() if name not in own}
        self._lines.add({**own, **others})
