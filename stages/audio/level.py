"""audio.level: recordings of one rate, one channel and one loudness."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.columns import CANONICAL, Columns
from schemas.media import encode_audio
from schemas.sample import Media, Sample
from stages.base import Map, New, Reject, Requirement, options

_SILENCE = 1e-5  # RMS of -100 dBFS, below the step of 16-bit audio


@options
class Level(Map):
    """Mix to mono, resample, bring to a loudness, and write a new 16-bit wav.

    Loudness is the RMS of the whole clip, which for clips of some seconds without long pauses is near enough to
    EBU R 128 and costs nothing. The gain stops where the peak would pass `peak`: no clipping, no limiter.
    """

    requires = (Requirement("soundfile", "audio"), Requirement("soxr", "audio"))
    reasons = ("silent", "too_short", "too_long")

    part: str = "audio"
    """The part that is read."""
    to: str = "audio"
    """The part that is written; it may be the same."""
    rate: Annotated[int, Field(ge=4000, le=192_000)] = 16_000
    """Sample rate of the result in Hz."""
    target: Annotated[float, Field(le=0, ge=-60)] = -23.0
    """Loudness of the result: RMS in dB below full scale."""
    peak: Annotated[float, Field(le=0, ge=-60)] = -1.0
    """The highest peak, in dB below full scale."""
    min: Annotated[float, Field(ge=0)] = 0.1
    """Shorter clips are rejected (seconds)."""
    max: Annotated[float, Field(gt=0)] = 3600.0
    """Longer clips are rejected (seconds)."""

    def reads(self) -> Columns:
        """The part."""
        return Columns(parts=(self.part,))

    def writes(self) -> Columns:
        """The new part, its measures, and the gain that was applied (dB)."""
        names = ("duration", "sample_rate", "channels")
        return Columns({**{name: CANONICAL[name] for name in names}, "gain": CANONICAL["duration"]}, parts=(self.to,))

    def each(self, sample: Sample) -> New | Reject:
        """The levelled sample."""
        import numpy as np

        wave, rate = sample.audio(self.part, self.rate)
        mono = wave.mean(axis=0, dtype=np.float64)
        duration = len(mono) / rate
        if duration < self.min:
            return Reject("too_short", f"{duration:.2f} s")
        if duration > self.max:
            return Reject("too_long", f"{duration:.2f} s")
        rms, highest = float(np.sqrt(np.mean(mono**2))), float(np.abs(mono).max())
        if rms < _SILENCE:
            return Reject("silent")
        gain = min(10 ** (self.target / 20) / rms, 10 ** (self.peak / 20) / highest)
        data = encode_audio((mono * gain).astype(np.float32)[None], rate)
        columns = {"duration": duration, "sample_rate": rate, "channels": 1, "gain": 20 * float(np.log10(gain))}
        return New(columns, media={self.to: Media(data, "wav")})
