"""audio.trim: leave out silence at both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from schemas.columns import CANONICAL, Columns
from schemas.sample import Sample
from stages.base import Map, New, Reject, Requirement, options

if TYPE_CHECKING:
    import numpy as np

_FRAME = 0.01  # seconds; long enough for one period of the lowest voices


def sound_bounds(wave: np.ndarray[Any, Any], rate: int, threshold: float) -> tuple[int, int] | None:
    """First and past-last sample of what is louder than `threshold` dB below the loudest frame, or None.

    wave: float array (channels, samples). Loudness is the RMS over frames of 10 ms, of the loudest channel: a single
    click does not set the scale as a peak would.
    """
    import numpy as np

    size = max(1, round(_FRAME * rate))
    count = -(-wave.shape[1] // size)
    padded = np.zeros((wave.shape[0], count * size), np.float64)
    padded[:, : wave.shape[1]] = wave
    rms = np.sqrt(np.mean(padded.reshape(wave.shape[0], count, size) ** 2, axis=2)).max(axis=0)
    if not rms.any():
        return None
    loud = np.flatnonzero(rms >= rms.max() * 10 ** (threshold / 20))
    return int(loud[0]) * size, min(wave.shape[1], (int(loud[-1]) + 1) * size)


@options
class Trim(Map):
    """Cut silence at both ends, as a view: the file stays as it is, later steps see the span that is meant."""

    requires = (Requirement("soundfile", "audio"),)
    reasons = ("silent",)

    part: str = "audio"
    """The part that is cut."""
    threshold: Annotated[float, Field(lt=0, ge=-120)] = -40.0
    """Silence is what lies this far below the loudest 10 ms, in dB."""
    margin: Annotated[float, Field(ge=0, le=10)] = 0.1
    """Seconds that are kept before and after the sound."""

    def reads(self) -> Columns:
        """The part."""
        return Columns(parts=(self.part,))

    def writes(self) -> Columns:
        """The part with its new view, and how long that is."""
        return Columns({"duration": CANONICAL["duration"]}, parts=(self.part,))

    def each(self, sample: Sample) -> New | Reject:
        """The cut sample."""
        wave, rate = sample.audio(self.part)
        bounds = sound_bounds(wave, rate, self.threshold)
        if bounds is None:
            return Reject("silent")
        margin = round(self.margin * rate)
        first, last = max(0, bounds[0] - margin), min(wave.shape[1], bounds[1] + margin)
        if first == 0 and last == wave.shape[1]:
            return New({"duration": wave.shape[1] / rate})
        part = sample.part(self.part)
        offset = part.span[0] if part.span else 0.0
        # Six digits find every sample again at any rate in use (a sample at 192 kHz lasts 5 microseconds).
        view = f"t={round(offset + first / rate, 6)},{round(offset + last / rate, 6)}"
        return New({"duration": (last - first) / rate}, parts={self.part: part._replace(view=view)})
