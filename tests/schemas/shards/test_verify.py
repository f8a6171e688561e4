"""Checking shards against their index."""

import pytest

from schemas.shards import Entry, Expected, Mismatch, ShardWriter, verify

MEMBERS = [("a/1.jpg", b"\1" * 3000), ("a/1.json", b"{}"), ("é.mp4", b"\2" * (3 << 20)), ("b.txt", b"")]


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "s.tar"
    with ShardWriter(path) as writer:
        written = writer.add(Entry(*member) for member in MEMBERS)
    rows = [Expected(name, *row) for (name, _), row in zip(MEMBERS, written, strict=True)]
    return path, rows, writer.close().digest


def test_a_whole_shard(shard):
    path, rows, digest = shard
    assert (
        verify(path, rows, digest) == verify(path) == verify(path, reversed(rows)) == verify(path, digest=digest) == []
    )


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_changed_byte_is_found_in_its_member(shard, row):
    path, rows, digest = shard
    raw = bytearray(path.read_bytes())
    raw[rows[row].offset + rows[row].size - 1] ^= 1
    path.write_bytes(raw)
    wrong = Mismatch(rows[row].name, "digest", rows[row].offset)
    assert verify(path, rows, digest) == [wrong, Mismatch("", "shard_digest", 0)]
    assert verify(path, [row._replace(digest=None) for row in rows]) == []  # nothing to compare with


def test_another_mode_changes_the_shard_alone(shard):
    path, rows, digest = shard
    raw = bytearray(path.read_bytes())
    raw[106:107] = b"5"
    raw[148:154] = b"%06o" % (int(raw[148:154], 8) + 1)
    path.write_bytes(raw)
    assert verify(path, rows, digest) == [Mismatch("", "shard_digest", 0)]


def test_rows_and_members_that_have_no_counterpart(shard):
    path, rows, digest = shard
    other = Expected("c.txt", 99, 1)
    assert verify(path, [*rows[:-1], other], digest) == [
        Mismatch("b.txt", "unexpected", rows[-1].offset),
        Mismatch("c.txt", "missing", 99),
    ]
    renamed = rows[0]._replace(name="a/2.jpg")
    assert [found.reason for found in verify(path, [renamed, *rows[1:]])] == ["unexpected", "missing"]


def test_a_cut_shard(shard):
    path, rows, digest = shard
    path.write_bytes(path.read_bytes()[: rows[2].offset + 10])
    assert verify(path, rows, digest) == [
        Mismatch("é.mp4", "truncated", rows[2].offset - 512),
        Mismatch("é.mp4", "missing", rows[2].offset),
        Mismatch("b.txt", "missing", rows[3].offset),
        Mismatch("", "shard_digest", 0),
    ]
