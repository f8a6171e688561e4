import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.sample import Sample
from stages.audio.score import Score
from stages.text.normalize import basic

words = st.lists(st.sampled_from(["press", "one", "two", "too", "naïve", "三"]), min_size=1, max_size=8).map(" ".join)


def score(text, heard):
    return Score().each(Sample("k", {"text": [text], "heard.text": [heard]}))


@given(words, words)
def test_rates_are_jiwers(text, heard):
    columns = score(text, heard).columns
    assert columns["wer"] == pytest.approx(jiwer.wer(text, heard))
    assert columns["cer"] == pytest.approx(jiwer.cer(text, heard))


def test_case_and_punctuation_do_not_count():
    assert score("Agent logged off.", " agent, LOGGED-off").columns == {
        "wer": 0.0,
        "cer": 0.0,
        "words": 3,
        "heard_words": 3,
        "edits": 0,
    }
    assert basic("Ｔhat's  a €5 “test”…") == "that s a 5 test"


def test_nothing_heard_and_nothing_to_hear():
    assert score("one two", None).columns["wer"] == 1.0
    assert score("one", "one two three").columns["wer"] == 2.0
    assert score("...", "one").reason == "empty_reference"
