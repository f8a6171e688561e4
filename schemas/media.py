"""Decoding of media bytes. Heavy libraries are imported where they are used."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from schemas.errors import MissingExtra, SampleError

if TYPE_CHECKING:
    import numpy as np


def decode_audio(
    data: bytes, span: tuple[float, float] | None = None, rate: int | None = None
) -> tuple[np.ndarray[Any, Any], int]:
    """Decode an audio file: float32 array (channels, frames) in [-1, 1], and its sample rate in Hz.

    span: only these seconds. rate: resample (soxr, high quality) to this rate.
    Raises SampleError(undecodable_audio | empty_audio).
    """
    try:
        import soundfile
    except ModuleNotFoundError:
        raise MissingExtra("soundfile", "audio") from None
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            found: int = file.samplerate
            if span is None:
                wave = file.read(dtype="float32", always_2d=True)
            else:
                start, end = (round(t * found) for t in span)
                file.seek(min(start, file.frames))
                wave = file.read(max(0, end - start), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        raise SampleError("undecodable_audio") from None
    if not len(wave):
        raise SampleError("empty_audio")
    if rate is not None and rate != found:
        import soxr

        wave, found = soxr.resample(wave, found, rate), rate
    return wave.T, found


def encode_audio(wave: np.ndarray[Any, Any], rate: int, format: str = "wav") -> bytes:
    """Encode float32 (channels, frames) in [-1, 1] as 16-bit audio of a format that libsndfile knows."""
    try:
        import soundfile
    except ModuleNotFoundError:
        raise MissingExtra("soundfile", "audio") from None
    out = io.BytesIO()
    soundfile.write(out, wave.T, rate, format=format.upper(), subtype="PCM_16")
    return out.getvalue()
