"""Sample keys: `<source>/<local id>`, safe as a file name in a tar and unique in a data set.

WebDataset takes everything up to the first dot of a base name as the key, so dots are escaped. Children of a
sample are `-0003`, repeated draws `~2`.
"""

from __future__ import annotations

import re

from schemas.digest import digest

MAX_BYTES = 90
_UNSAFE = re.compile(r"[.%\x00-\x1f\x7f\\]")
_REPEATED = re.compile(r"~\d+$")
_PLAIN = re.compile(r"[\w-]+(/[\w-]+)*", re.ASCII)  # what most ids look like needs no care


def make_key(source: str, local: str) -> str:
    """The key of a sample: at most 90 bytes of UTF-8, no dots, no empty or hidden path components.

    A longer id keeps its head and ends in 16 hex digits of its digest, so it stays unique and recognisable.
    """
    key = f"{source}/{local}"
    if len(key) <= MAX_BYTES and _PLAIN.fullmatch(key):
        return key
    parts = (_UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part) for part in key.split("/"))
    return shortened("/".join(part or "%" for part in parts))  # a lone % is an empty component, and nothing else


def child_key(key: str, index: int) -> str:
    """The key of the `index`-th child (from 0) of a sample."""
    return shortened(f"{key}-{index:04d}")


def repeat_key(key: str, repeat: int) -> str:
    """The key of a repeated draw: the first (0) keeps the key, the second ends in `~2`.

    A key that is a repeat's already gets `~1` for its first draw, so that no two draws have one key.
    """
    return key if repeat == 0 and not _REPEATED.search(key) else shortened(f"{key}~{repeat + 1}")


def shortened(key: str) -> str:
    """The key, or its head and a digest of it where it is longer than MAX_BYTES."""
    raw = key.encode("utf-8", "surrogatepass")
    text = raw.decode("utf-8", "replace")  # a lone surrogate cannot be written to a tar
    if text == key and len(raw) <= MAX_BYTES:
        return key
    head = text.encode()[: MAX_BYTES - 17].decode("utf-8", "ignore")
    return f"{head}_{digest(raw).hex()[:16]}"
