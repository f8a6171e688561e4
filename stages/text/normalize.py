"""Texts made comparable: what does not count as a difference between two transcripts is removed."""

from __future__ import annotations

import unicodedata

_KEEP = "LN"  # letters and numbers; marks, symbols, punctuation and the rest become spaces


def basic(text: str) -> str:
    """Lower case, compatibility forms (NFKC), and nothing but letters and digits between single spaces.

    The steps of Whisper's normaliser for languages other than English (Radford et al. 2022, appendix C), without
    its removal of bracketed text. Numerals are not unified: "2" and "two" differ.
    """
    lowered = unicodedata.normalize("NFKC", text.lower())
    return " ".join("".join(c if unicodedata.category(c)[0] in _KEEP else " " for c in lowered).split())
