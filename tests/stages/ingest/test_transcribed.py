from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from schemas.sample import Sample
from stages.base import New, Reject
from stages.ingest.transcribed import TranscribedAudio, parse_transcripts


def test_the_asterisk_prompts(quickstart, rows, media):
    source = TranscribedAudio(root=str(quickstart / "wav"), transcripts=str(quickstart / "transcripts.txt"))
    assert list(source.check()) == []
    found = rows(source)
    kept = {key: result for key, result in found.items() if isinstance(result, New)}
    rejected = {key: result.reason for key, result in found.items() if isinstance(result, Reject)}
    recordings = len(list((quickstart / "wav").rglob("*.wav")))
    assert recordings == 568
    assert len(kept) + list(rejected.values()).count("missing_transcript") == recordings
    assert list(rejected.values()).count("missing_audio") == 1
    assert kept["digits/1"].columns["text"].lower().startswith("one")
    sample = Sample("digits/1", parts=kept["digits/1"].parts, read=media)
    wave, rate = sample.audio("audio")
    assert (wave.shape[0], rate) == (1, 8000)
    assert sample.read("audio") == (quickstart / "wav/digits/1.wav").read_bytes()


def test_lines(tmp_path: Path, rows):
    for name in ("a.wav", "b/c.WAV", "a.flac", "lonely.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    text = (
        b"\xef\xbb\xbf; a: comment\n\n a.wav : one: two \r\nb/c: three\nno text here\nb/c: again\n\xff: x\ngone: away\n"
    )
    (tmp_path / "lines").write_bytes(text)
    found = rows(TranscribedAudio(root=str(tmp_path), transcripts=str(tmp_path / "lines")))
    assert found["a"].columns == {"text": "one: two"}
    assert found["a"].parts["audio"].format == "flac"
    assert found["b/c"].parts["audio"].format == "wav"
    assert {key: result.reason for key, result in found.items() if isinstance(result, Reject)} == {
        "a.wav": "duplicate_audio",
        "lonely": "missing_transcript",
        "gone": "missing_audio",
        "line-000005": "no_separator",
        "line-000006": "duplicate_transcript",
        "line-000007": "not_utf8",
    }


def test_a_changed_line_changes_the_state_of_its_recording_only(tmp_path: Path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"x")
    lines = tmp_path / "lines"
    source = TranscribedAudio(root=str(tmp_path), transcripts=str(lines))
    lines.write_text("a: one\nb: two\n")
    before = {origin.name: origin for origin in source.origins()}
    lines.write_text("a: one\nb: 2\n")
    after = {origin.name: origin for origin in source.origins()}
    assert before["a"] == after["a"]
    assert before["b"] != after["b"]


@given(st.dictionaries(st.from_regex(r"[a-z0-9/]{1,9}", fullmatch=True), st.text("abc:; é", max_size=20), max_size=9))
def test_every_text_comes_back(texts):
    data = "".join(f"{key}: {text}\n" for key, text in texts.items()).encode()
    parsed = parse_transcripts(data, ":")
    assert parsed.texts == {key: text.strip() for key, text in texts.items()}
    assert not parsed.broken


def test_missing_paths_are_named(tmp_path: Path):
    source = TranscribedAudio(root=str(tmp_path), transcripts=str(tmp_path / "none.txt"))
    first, second = source.check()
    assert first.startswith("no files (.aac, .flac")
    assert str(tmp_path) in first
    assert second == f"there is no {tmp_path}/none.txt"
