"""What a card shows of a row."""

from __future__ import annotations

from pipelines.view.cards import card
from schemas.sample import Part

PART = {"name": "audio", "format": "wav", "uri": "a.tar", "offset": 0, "size": 10, "view": "t=1.5,3.0"}


def text(row: dict, address: str | None = "/there") -> str:
    def link(_: Part) -> str | None:
        return address

    return card({"key": "k", **row}, link)


def test_ancestors_are_listed_oldest_first():
    lineage = [
        {"step": "split", "key": "whole", "dataset": "out/<raw>/1"},
        {"step": "mix", "key": "half", "dataset": None},
    ]
    shown = text({"lineage": lineage})
    assert "<li><b>whole</b> before split in out/&lt;raw&gt;/1</li><li><b>half</b> before mix</li>" in shown


def test_a_view_is_played_as_such_and_named():
    assert 'src="/there#t=1.5,3.0"' in text({"parts": [PART]})
    assert "t=1.5,3.0" in text({"parts": [PART]}, None)


def test_a_medium_that_is_not_there_is_named():
    assert "audio · wav · 10 B · t=1.5,3.0<span> (not shown here)</span>" in text({"parts": [PART]}, None)
    assert "(not shown here)" in text({"parts": [{**PART, "format": "npy"}]})


def test_messages_that_are_none_are_shown_as_they_are():
    assert "<p>[&lt;oops&gt;</p>" in text({"messages": "[<oops>"})
    asked = '[{"role": "user", "content": [{"type": "image", "part": "gone"}]}]'
    assert "which this sample lacks" in text({"messages": asked})


def test_values_are_grouped_and_nulls_left_out():
    row = {"n": 3, "nothing": None, "score": {"wer": 0.12345, "deep": {"ok": True}, "none": None}, "tags": ["ä", None]}
    shown = text(row)
    assert "nothing" not in shown
    assert "none" not in shown
    assert "<h4>score</h4>" in shown
    assert "<dt>wer</dt> <dd>0.1235</dd>" in shown
    assert "<dt>deep.ok</dt> <dd>true</dd>" in shown
    assert '<dd>["ä", null]</dd>' in shown


def test_a_sample_may_have_a_reason_of_its_own():
    assert "<dt>reason</dt> <dd>because</dd>" in text({"reason": "because"})
    shown = text({"flow": "f", "step": "s", "reason": "r", "detail": "d"})
    assert '<p class="verdict"><b>r</b><span class="quiet"> at f.s</span><span>: d</span></p>' in shown
    assert "<dt>" not in shown
