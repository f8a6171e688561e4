"""text.split: cut texts into pieces of a few sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from schemas.columns import CANONICAL, Columns
from schemas.sample import Sample
from stages.base import Expand, New, Reject, options

# After a full stop (with closing quotes or brackets) and white space, or at once after a Chinese one.
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])[”’」』）]*\s*|\n\s*\n\s*")


def sentences(text: str) -> list[str]:
    """The sentences of a text with the white space that follows them: joined, they are the text again.

    Simple on purpose: "Dr. Smith" is cut after "Dr.".
    """
    cuts = [found.end() for found in _SENTENCE_END.finditer(text) if found.end() > 0]
    bounds = [0, *dict.fromkeys(cuts), len(text)]
    return [text[a:b] for a, b in pairwise(bounds) if a < b]


def pieces(text: str, words: int) -> Iterator[str]:
    """Pieces of whole sentences with at most so many words each; a longer sentence is cut between words."""
    held: list[str] = []
    count = 0
    for sentence in sentences(text):
        own = sentence.split()
        if held and count + len(own) > words:
            yield "".join(held).strip()
            held, count = [], 0
        if len(own) > words:
            for start in range(0, len(own), words):
                yield " ".join(own[start : start + words])
        elif own:
            held.append(sentence)
            count += len(own)
    if held:
        yield "".join(held).strip()


@options
class Split(Expand):
    """Cut a text at sentence ends into pieces of at most `words` words; each becomes a sample."""

    reasons = ("empty_text",)

    text: str = "text"
    """The column that is cut. The pieces stand in the column `text`."""
    words: Annotated[int, Field(ge=1)] = 200
    """The most words (runs of characters between white space) in a piece."""

    def reads(self) -> Columns:
        """The text."""
        return Columns({self.text: CANONICAL["text"]})

    def writes(self) -> Columns:
        """The piece."""
        return Columns({"text": CANONICAL["text"]})

    def each(self, sample: Sample) -> Iterator[New] | Reject:
        """One child for each piece."""
        text = sample[self.text]
        if not text or text.isspace():
            return Reject("empty_text")
        return (New({"text": piece}) for piece in pieces(text, self.words))
