from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import SampleError, StageError
from schemas.message import Medium, Message, Text, dump_messages, parse_messages
from schemas.sample import Part, Sample, member_extension, part_name

words = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@given(words, words)
def test_a_part_keeps_its_name_through_a_tar(name, format):
    part = part_name(member_extension(name, format), {})
    assert member_extension(part, format) == member_extension(name, format)


def test_names_of_foreign_media():
    assert part_name("jpg", {}) == "image"
    assert part_name("png", {"image": 1}) == "png"
    assert part_name("speech.wav", {}) == "speech"
    assert part_name("npy", {}) == "npy"
    assert member_extension("image", "jpg") == "jpg"
    assert member_extension("speech", "wav") == "speech.wav"
    assert member_extension("png", "png") == "png"


def test_a_stage_reaches_only_what_it_declares():
    sample = Sample("k", {"text": ["a", "b"]}, 1)
    assert sample["text"] == "b"
    with pytest.raises(StageError, match="'txt' that it does not declare"):
        sample["txt"]
    with pytest.raises(SampleError, match="missing_part"):
        sample.read("image")


def test_media_are_read_once_until_they_are_replaced():
    reads = []
    part = Part("blob", "bin", "u", 0, 3)

    def read(part: Part) -> bytes:
        reads.append(part.uri)
        return part.uri.encode()

    sample = Sample("k", {}, 0, {"blob": part}, read)
    assert sample.read("blob") == sample.read("blob") == b"u"
    sample.write({}, {"blob": part._replace(uri="v")})
    assert sample.read("blob") == b"v"
    assert reads == ["u", "v"]


def test_messages_are_canonical():
    messages = [
        Message(role="user", content=[Medium(type="image", part="image"), Text(text="这是什么？")]),
        Message(role="assistant", content=[Text(text="a cat")]),
    ]
    text = dump_messages(messages)
    assert parse_messages(text) == messages
    assert dump_messages(parse_messages(f" {text} ")) == text
    assert "这是什么" in text
