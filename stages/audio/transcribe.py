"""asr.transcribe: what a speech recogniser hears."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.columns import CANONICAL, Columns
from schemas.sample import Sample
from stages.base import Batch, New, Reject, Requirement, options
from stages.models.recognizer import Recognizer

RATE = 16_000  # Hz; what speech recognisers are trained on


@options
class Transcribe(Batch):
    """Write down what is said in a recording, with the figures by which bad recognition shows.

    The sound is mixed to mono and brought to 16 kHz on the fly; other rates and channels need no step before.
    """

    requires = (Requirement("soundfile", "audio"), Requirement("soxr", "audio"))
    budget = 240  # seconds of sound in a batch
    version = 1

    part: str = "audio"
    """The part that is heard."""

    def reads(self) -> Columns:
        """The part."""
        return Columns(parts=(self.part,))

    def writes(self) -> Columns:
        """text, and: logprob (mean by token), no_speech (probability), compression_ratio, seconds of sound, and the
        language (ISO 639-1) that was heard. Figures that a recogniser does not have are null."""
        number = pa.float64()
        figures = {"logprob": number, "no_speech": number, "compression_ratio": number, "seconds": number}
        return Columns({"text": CANONICAL["text"], **figures, "language": CANONICAL["language"]}, own=True)

    def cost(self, sample: Sample) -> int:
        """Seconds of sound. Raises SampleError where the sound cannot be decoded."""
        return math.ceil(_wave(sample, self.part).shape[0] / RATE)

    def batch(self, model: Recognizer, samples: Sequence[Sample]) -> list[New | Reject]:
        """A transcript for each sample; an empty one where nothing is heard."""
        waves = [_wave(sample, self.part) for sample in samples]
        results: list[New | Reject] = []
        for wave, heard in zip(waves, model.transcribe(waves, RATE), strict=True):
            figures = {"logprob": heard.logprob, "no_speech": heard.no_speech}
            figures |= {"compression_ratio": heard.compression_ratio, "seconds": len(wave) / RATE}
            results.append(New({"text": heard.text, **figures, "language": heard.language}))
        return results


def _wave(sample: Sample, part: str) -> np.ndarray:
    wave, _ = sample.audio(part, RATE)
    mono: np.ndarray = wave.mean(axis=0, dtype=np.float32) if len(wave) > 1 else wave[0]
    return np.ascontiguousarray(mono)
