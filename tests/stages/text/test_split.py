from hypothesis import given
from hypothesis import strategies as st

from schemas.sample import Sample
from stages.text.split import Split, pieces, sentences


def test_sentences_stay_whole():
    text = 'One two. "Three?" four!\n\nFive six seven eight nine. 今天好。明天也好！'
    assert list(pieces(text, 4)) == ['One two. "Three?" four!', "Five six seven eight", "nine.", "今天好。明天也好！"]


@given(st.text("ab .!?。\n\"'", max_size=60), st.integers(1, 5))
def test_no_word_is_lost_and_no_piece_too_long(text, words):
    assert "".join(sentences(text)) == text
    found = list(pieces(text, words))
    assert all(0 < len(piece.split()) <= words for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_empty_texts_are_rejected():
    for text in (None, "", " \n"):
        assert Split().each(Sample("k", {"text": [text]})).reason == "empty_text"
    assert [new.columns["text"] for new in Split(words=1).each(Sample("k", {"text": ["a b"]}))] == ["a", "b"]
