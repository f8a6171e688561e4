"""Reading tar headers: one at a time with everything that tars hold, or many plain ones at once.

Old v7, POSIX ustar and pax, and GNU tar, as described in
https://www.gnu.org/software/tar/manual/html_node/Standard.html and the pax reference in `header`.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.shards.header import BLOCK

REGULAR = frozenset((b"0", b"\0", b"7"))  # 7: "contiguous", a file for everyone else
EXTENDED = frozenset((b"x", b"g", b"X", b"L", b"K"))  # their data describe the next member(s)
WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))  # whatever their size field says
SPARSE = b"S"

_POSIX_MAGIC, _GNU_MAGIC = (int.from_bytes(b"\0" + magic, "little") for magic in (b"ustar\x000", b"ustar  "))
_SIZE_WEIGHTS = 8 ** np.arange(10, -1, -1, dtype=np.int64)
_CHECKSUM_WEIGHTS = 8 ** np.arange(5, -1, -1, dtype=np.int64)


class BadHeader(Exception):
    """A block that is no tar header, or one whose fields cannot be read."""


class Header(NamedTuple):
    """What one header block says. `size` in bytes; `sparse_more`: blocks of an old GNU sparse map follow."""

    name: str
    size: int
    kind: bytes
    sparse_more: bool


class Plain(NamedTuple):
    """Adjacent regular members by columns: the data of each are `sizes` bytes at `starts` of the tar.

    `end` is where the header after the last of them must be.
    """

    names: list[str]
    starts: list[int]
    sizes: list[int]
    end: int


def parse(block: bytes) -> Header:
    """One header block. Raises BadHeader."""
    stated = _number(block[148:156])
    counted = block[:148] + b" " * 8 + block[156:]
    # The low half of Adler-32 is the sum of the bytes plus one, modulo 65521. Some old tars summed signed bytes.
    if zlib.adler32(counted) & 0xFFFF != (stated + 1) % 65521 and stated != sum(
        byte - 256 * (byte > 127) for byte in counted
    ):
        raise BadHeader
    kind = block[156:157]
    name = text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{text(block[345:500])}/{name}"
    size = _number(block[124:136])
    if size < 0:
        raise BadHeader
    if kind == b"\0" and name.endswith("/"):  # how v7 says directory
        kind = b"5"
    return Header(name, size, kind, kind == SPARSE and block[482] != 0)


def text(field: bytes) -> str:
    """A field up to its NUL. Bytes that are not UTF-8 become \\xNN, so that every name is text."""
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def pax_records(body: bytes) -> dict[str, bytes]:
    """The records of a PAX header. Raises BadHeader."""
    records: dict[str, bytes] = {}
    start = 0
    while start < len(body) and body[start]:  # some writers pad with NULs
        digits, space, _ = body[start : start + 20].partition(b" ")
        end = start + int(digits) if space and digits.isdigit() else 0
        key, equals, value = body[start + len(digits) + 1 : end].partition(b"=")
        if end > len(body) or not equals or not value.endswith(b"\n"):
            raise BadHeader
        records[key.decode("utf-8", "backslashreplace")] = value[:-1]
        start = end
    return records


def plain_members(data: memoryview, offset: int) -> Plain | None:
    """The run of regular members that `data`, which is at `offset` of the tar, begins with.

    Members with ustar or GNU headers whose checksums are right and that nothing extends. None where the first
    block is anything else; then `parse` has the say.
    """
    blocks = np.frombuffer(data, np.uint8, len(data) // BLOCK * BLOCK).reshape(-1, BLOCK)
    magic = blocks.view("<u8")[:, 32]  # the last byte of the link name, which is NUL, and the magic
    rows = np.flatnonzero((magic == _POSIX_MAGIC) | (magic == _GNU_MAGIC))
    if not len(rows) or rows[0]:
        return None
    heads = blocks.take(rows, axis=0)
    digits = heads[:, 124:135] - np.uint8(48)
    sums = heads[:, 148:154] - np.uint8(48)
    heads[:, 148:156] = 32  # the checksum counts its own field as spaces
    total = heads.sum(1, dtype=np.uint16)  # modulo 65536: four times as fast, and what exceeds it is no text
    good = (
        (heads[:, 156] == ord("0"))
        & (heads[:, 345] == 0)
        & (heads[:, 0] != 0)
        & (heads[:, 135] <= 32)
        & ((sums @ _CHECKSUM_WEIGHTS).astype(np.uint16) == total)
    )
    good[np.flatnonzero(digits > 7) // digits.shape[1]] = False  # ten times as fast as a maximum by rows
    good[np.flatnonzero(sums > 7) // sums.shape[1]] = False
    sizes = digits @ _SIZE_WEIGHTS
    after = rows + 1 + -(-sizes // BLOCK)
    if not good.all() or (rows[1:] != after[:-1]).any():
        keep = _chain(rows, after, good)  # data that look like headers, or the end of the run
        heads, rows, sizes, after = heads[keep], rows[keep], sizes[keep], after[keep]
        if not len(rows):
            return None
    names = _names(heads)
    return Plain(names, ((rows + 1) * BLOCK + offset).tolist(), sizes.tolist(), int(after[-1]) * BLOCK + offset)


def _chain(rows: npt.NDArray[np.int64], after: npt.NDArray[np.int64], good: npt.NDArray[np.bool_]) -> list[int]:
    """Positions in `rows` of the headers that follow one another from block 0 on."""
    known = {row: position for position, row in enumerate(rows.tolist())}
    following, fine = after.tolist(), good.tolist()
    keep: list[int] = []
    position = known.get(0)
    while position is not None and fine[position]:
        keep.append(position)
        position = known.get(following[position])
    return keep


def _names(heads: npt.NDArray[np.uint8]) -> list[str]:
    raw = np.ascontiguousarray(heads[:, :100]).view("S100").ravel().tolist()
    joined = b"\0".join(raw)
    if joined.count(b"\0") == len(raw) - 1:
        return str(joined, "utf-8", "backslashreplace").split("\0")
    return [text(name) for name in raw]  # something behind the NUL


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256 (of which negative numbers stay negative)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:]) if field[0] == 0x80 else -1
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError as error:
        raise BadHeader from error
