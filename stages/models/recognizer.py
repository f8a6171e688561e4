"""What every speech recogniser can do, whatever is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Word(NamedTuple):
    """A word of a hypothesis: its span in seconds from the start of the wave, and how sure the model is (0 to 1)."""

    text: str
    start: float
    end: float
    confidence: float | None = None


class Hypothesis(NamedTuple):
    """What a recogniser heard. A figure that a recogniser does not have is None.

    logprob: mean log-probability of the tokens. no_speech: probability that nobody spoke. compression_ratio: bytes of
    the text by its bytes after zlib, high where a decoder repeats itself.
    """

    text: str
    words: tuple[Word, ...] = ()
    logprob: float | None = None
    no_speech: float | None = None
    compression_ratio: float | None = None
    language: str | None = None


class Recognizer(Protocol):
    """A loaded speech recogniser."""

    def transcribe(self, waves: Sequence[np.ndarray[Any, Any]], rate: int) -> list[Hypothesis]:
        """One hypothesis for each wave: float32 arrays (samples,) in [-1, 1], all at `rate` Hz."""
        ...
