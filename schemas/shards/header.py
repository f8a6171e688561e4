"""Tar headers for many members at once.

POSIX ustar with mtime 0, mode 0644 and no owner, so that equal members give equal bytes. A PAX record goes in
front only where ustar cannot say it: a name that is not ASCII or does not fit into name + prefix, or a size of
8 GiB and more. Format: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html (ustar and pax).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from schemas.errors import DataError

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
ZEROS = tuple(bytes(count) for count in range(BLOCK))
"""`ZEROS[-size % BLOCK]` is the padding after a member of that size."""

_NAME, _PREFIX = 100, 155
_SIZE_LIMIT = 8 << 30  # eleven octal digits
_PAX_NAME = b"././@PaxHeader"  # what tarfile writes; only readers that do not know PAX ever show it
_SIZE_SHIFTS = np.arange(30, -1, -3)
_CHECKSUM_SHIFTS = np.arange(15, -1, -3, dtype=np.uint16)


def _template() -> npt.NDArray[np.uint8]:
    block = bytearray(BLOCK)
    for start, value in (
        (100, b"0000644\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (136, b"00000000000\0"),
        (148, b" " * 8),  # the checksum counts its own field as spaces
        (257, b"ustar\x0000"),
        (329, b"0000000\0"),
        (337, b"0000000\0"),
    ):
        block[start : start + len(value)] = value
    return np.frombuffer(bytes(block), np.uint8)


_TEMPLATE = _template()
_TEMPLATE_SUM = int(_TEMPLATE.sum(dtype=np.int64))


def padded(size: int) -> int:
    """The size rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def header_size(name: str, size: int) -> int:
    """Bytes of the header block(s) of a member: 512, or more where a PAX record is needed.

    Only `headers` looks for everything that makes a name invalid.
    """
    if len(name) <= _NAME and size < _SIZE_LIMIT and name.isascii():  # what nearly all members are
        return BLOCK
    body = _split(name, size)[2]
    return BLOCK + (BLOCK + padded(len(body)) if body else 0)


def entry_size(name: str, size: int) -> int:
    """Bytes that a member takes in the tar: its header(s) and its data, padded to whole blocks."""
    return header_size(name, size) + padded(size)


def entry_sizes(names: Sequence[str], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`entry_size` of many members: int64 array of shape (len(names),)."""
    if max(map(len, names), default=0) <= _NAME and sizes.max(initial=0) < _SIZE_LIMIT and "".join(names).isascii():
        return BLOCK + -(-sizes // BLOCK) * BLOCK
    return np.array([entry_size(name, size) for name, size in zip(names, sizes.tolist(), strict=True)], np.int64)


def headers(names: Sequence[str], sizes: Sequence[int]) -> list[bytes]:
    """The header block(s) of each member, in order.

    Raises DataError for a name that is empty, ends in a slash, holds a NUL or is not valid Unicode.
    """
    if not names:
        return []
    joined = "\0".join(["", *names, ""])
    if joined.isascii() and joined.count("\0") == len(names) + 1 and not ("\0\0" in joined or "/\0" in joined):
        short = np.array(joined[1:-1].encode().split(b"\0"))
        if short.itemsize <= _NAME and max(sizes) < _SIZE_LIMIT:  # what nearly all batches are
            return _rows(_blocks(short, None, sizes, b"0"))
    split = [_split(name, size) for name, size in zip(names, sizes, strict=True)]
    field_sizes = [size if size < _SIZE_LIMIT else 0 for size in sizes]
    ends = np.array([row[0] for row in split])
    mains = _rows(_blocks(ends, np.array([row[1] for row in split]), field_sizes, b"0"))
    return [_extended(body) + main if body else main for (_, _, body), main in zip(split, mains, strict=True)]


def _blocks(
    names: npt.NDArray[np.bytes_], prefixes: npt.NDArray[np.bytes_] | None, sizes: Sequence[int], kind: bytes
) -> npt.NDArray[np.uint8]:
    """Header blocks, uint8 of shape (n, 512)."""
    count = len(names)
    blocks = np.empty((count, BLOCK), np.uint8)
    blocks[:] = _TEMPLATE
    fields = names.view(np.uint8).reshape(count, -1)
    blocks[:, : fields.shape[1]] = fields
    digits = ((np.array(sizes, np.int64)[:, None] >> _SIZE_SHIFTS) & 7).astype(np.uint8) + np.uint8(48)
    blocks[:, 124:135] = digits
    blocks[:, 156] = kind[0]
    # uint16 sums four times as fast as int64 and holds every checksum of ASCII fields: 512 * 127 < 65536
    sums = fields.sum(1, dtype=np.uint16) + digits.sum(1, dtype=np.uint16) + np.uint16(_TEMPLATE_SUM + kind[0])
    if prefixes is not None:
        more = prefixes.view(np.uint8).reshape(count, -1)
        blocks[:, 345 : 345 + more.shape[1]] = more
        sums += more.sum(1, dtype=np.uint16)
    blocks[:, 148:154] = ((sums[:, None] >> _CHECKSUM_SHIFTS) & 7) + 48
    blocks[:, 154] = 0
    return blocks


def _rows(blocks: npt.NDArray[np.uint8]) -> list[bytes]:
    return cast(list[bytes], blocks.view(f"V{BLOCK}").ravel().tolist())


def _split(name: str, size: int) -> tuple[bytes, bytes, bytes]:
    """(name field, prefix field, body of the PAX record or nothing)."""
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"not a valid member name: {name!a}", "names in a shard are Unicode text") from error
    if not raw or raw.endswith(b"/") or b"\0" in raw:
        raise DataError(f"not a valid member name: {name!a}", "it is empty, ends in a slash or holds a NUL")
    body = _record(b"size", b"%d" % size) if size >= _SIZE_LIMIT else b""
    if raw.isascii():
        if len(raw) <= _NAME:
            return raw, b"", body
        cut = raw.rfind(b"/", 0, _PREFIX + 1)
        if cut > 0 and len(raw) - cut - 1 <= _NAME:
            return raw[cut + 1 :], raw[:cut], body
    fallback = name.encode("ascii", "replace")[:_NAME].rstrip(b"/") or b"?"
    return fallback, b"", _record(b"path", raw) + body


def _record(key: bytes, value: bytes) -> bytes:
    """One PAX record, `<length> <key>=<value>\\n`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _extended(body: bytes) -> bytes:
    header = _blocks(np.array([_PAX_NAME]), None, [len(body)], b"x").tobytes()
    return header + body + ZEROS[-len(body) % BLOCK]
