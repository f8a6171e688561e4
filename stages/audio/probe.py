"""audio.probe: length, rate and channels of recordings."""

from __future__ import annotations

import io

from schemas.columns import CANONICAL, Columns
from schemas.errors import SampleError
from schemas.sample import Sample
from stages.base import Map, New, Reject, Requirement, options


@options
class Probe(Map):
    """Duration (s), sample rate (Hz) and channels from the header of an audio file; nothing is decoded.

    Of a part with a view, the duration of the view. Formats are those of libsndfile: wav, flac, mp3, ogg, opus.
    """

    requires = (Requirement("soundfile", "audio"),)
    reasons = ("empty_audio",)

    part: str = "audio"
    """The part that is measured."""

    def reads(self) -> Columns:
        """The part."""
        return Columns(parts=(self.part,))

    def writes(self) -> Columns:
        """Canonical columns."""
        return Columns({name: CANONICAL[name] for name in ("duration", "sample_rate", "channels")})

    def each(self, sample: Sample) -> New | Reject:
        """What the header says. Raises SampleError(undecodable_audio)."""
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(sample.read(self.part))) as file:
                duration, rate, channels = file.frames / file.samplerate, file.samplerate, file.channels
        except soundfile.LibsndfileError:
            raise SampleError("undecodable_audio") from None
        span = sample.part(self.part).span
        if span:
            duration = max(0.0, min(duration, span[1]) - span[0])
        if duration <= 0:
            return Reject("empty_audio")
        return New({"duration": duration, "sample_rate": rate, "channels": channels})
