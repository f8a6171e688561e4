"""asr.score: how far a transcript is from the reference."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Columns
from schemas.sample import Sample
from stages.base import Map, New, Reject, Requirement, options
from stages.text.normalize import basic


@options
class Score(Map):
    """Word and character error rates of a recognised text, after both texts are made comparable.

    Rates are edits (substitutions, deletions and insertions) by the length of the reference, so they can pass 1.
    Lower case, letters and digits only: see stages.text.normalize.basic. Spaces count as characters.
    """

    requires = (Requirement("rapidfuzz", "audio"),)
    reasons = ("empty_reference",)

    text: str = "text"
    """The column with the reference."""
    heard: str = "heard.text"
    """The column with the recognised text."""

    def reads(self) -> Columns:
        """Both texts."""
        return Columns({self.text: pa.string(), self.heard: pa.string()})

    def writes(self) -> Columns:
        """wer and cer (shares), words in the reference and in the recognised text, edits between them in words."""
        rates = {"wer": pa.float64(), "cer": pa.float64()}
        return Columns({**rates, "words": pa.int32(), "heard_words": pa.int32(), "edits": pa.int32()})

    def each(self, sample: Sample) -> New | Reject:
        """The scores of one sample."""
        from rapidfuzz.distance import Levenshtein

        reference, heard = basic(sample[self.text] or ""), basic(sample[self.heard] or "")
        if not reference:
            return Reject("empty_reference")
        words, heard_words = reference.split(), heard.split()
        edits = Levenshtein.distance(words, heard_words)
        cer = Levenshtein.distance(reference, heard) / len(reference)
        counts = {"words": len(words), "heard_words": len(heard_words), "edits": edits}
        return New({"wer": edits / len(words), "cer": cer, **counts})
