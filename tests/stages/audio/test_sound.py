"""Probe, trim and level, on a real recording and on made ones."""

import numpy as np
import pytest

from schemas.errors import SampleError
from schemas.media import decode_audio, encode_audio
from schemas.sample import Part, Sample
from stages.audio.level import Level
from stages.audio.probe import Probe
from stages.audio.trim import Trim


def sample(data, view=None, format="wav"):
    return Sample("k", parts={"audio": Part("audio", format, "f", 0, len(data), view)}, read=lambda part: data)


def tone(seconds, rate=8000, level=0.5, channels=1):
    wave = level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


def silence(seconds, rate=8000):
    return np.zeros((1, round(seconds * rate)), np.float32)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3"])
def test_probe_reads_the_header(format):
    import io

    import soundfile

    out = io.BytesIO()
    soundfile.write(out, tone(1.5, 16000, channels=2).T, 16000, format=format)
    columns = Probe().each(sample(out.getvalue(), format=format)).columns
    assert columns == {"duration": pytest.approx(1.5, abs=0.08), "sample_rate": 16000, "channels": 2}


def test_probe_of_a_view_and_of_garbage():
    data = encode_audio(tone(2), 8000)
    assert Probe().each(sample(data, "t=0.5,1.25")).columns["duration"] == 0.75
    assert Probe().each(sample(data, "t=1.5,9")).columns["duration"] == 0.5
    assert Probe().each(sample(encode_audio(silence(0), 8000))).reason == "empty_audio"
    with pytest.raises(SampleError, match="undecodable_audio"):
        Probe().each(sample(b"no sound"))


def test_trim_is_a_view_of_the_same_bytes():
    data = encode_audio(np.concatenate([silence(0.5), tone(1), silence(0.7)], axis=1), 8000)
    result = Trim(margin=0.1).each(sample(data))
    assert result.parts["audio"].view == "t=0.4,1.6"
    assert result.columns["duration"] == pytest.approx(1.2)
    again = Trim(margin=0.1).each(sample(data, "t=0.4,1.6"))
    assert again.parts == {}  # nothing left to cut
    inner = Trim(margin=0).each(sample(data, "t=0.4,1.6"))
    assert inner.parts["audio"].view == "t=0.5,1.5"
    assert Trim().each(sample(encode_audio(silence(1), 8000))).reason == "silent"


def test_trim_of_real_speech(quickstart):
    data = (quickstart / "wav/agent-pass.wav").read_bytes()
    before, rate = decode_audio(data)
    result = Trim(margin=0).each(sample(data))
    start, end = result.parts["audio"].span
    assert 0 <= start < end <= before.shape[1] / rate
    cut, _ = decode_audio(data, (start, end))
    assert cut.shape[1] == round(result.columns["duration"] * rate)
    assert np.sum(cut**2) > 0.999 * np.sum(before**2)


@pytest.mark.parametrize("level", [0.001, 0.9])
def test_level_brings_sound_to_one_form(level):
    data = encode_audio(tone(1, 44100, level, channels=2), 44100)
    result = Level(target=-23).each(sample(data))
    wave, rate = decode_audio(bytes(result.media["audio"].data))
    assert (wave.shape, rate) == ((1, 16000), 16000)
    assert 20 * np.log10(np.sqrt(np.mean(wave**2))) == pytest.approx(-23, abs=0.1)
    assert result.columns["duration"] == pytest.approx(1)
    assert (result.columns["sample_rate"], result.columns["channels"]) == (16000, 1)


def test_level_does_not_clip():
    wave = tone(1, 16000, 0.01)
    wave[0, 100] = 0.9
    result = Level(target=-10, peak=-1, to="speech").each(sample(encode_audio(wave, 16000)))
    found, _ = decode_audio(bytes(result.media["speech"].data))
    assert np.abs(found).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3)


def test_level_rejects():
    second = encode_audio(tone(1), 8000)
    assert Level(min=1.5).each(sample(second)).reason == "too_short"
    assert Level(max=0.5).each(sample(second)).reason == "too_long"
    assert Level().each(sample(encode_audio(silence(1), 8000))).reason == "silent"
