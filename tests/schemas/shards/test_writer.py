"""Writing shards in order and out of order, from memory and from ranges of files."""

import errno
import os
import random
import tarfile

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DataError
from schemas.shards import Entry, Range, ShardInfo, ShardWriter, Written, headers, shard_digest
from schemas.shards import sink as sink_module
from schemas.shards import source as source_module


def digest(data):
    return blake3(data).digest(16)


def write(path, entries, **options):
    with ShardWriter(path, **options) as writer:
        written = writer.add(entries)
    return written, writer.close()


def contents(path):
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


@given(st.lists(st.tuples(st.from_regex(r"[a-zé]{1,9}/[a-z]{1,130}\.jpg", fullmatch=True), st.binary(max_size=1500))))
@settings(deadline=None)
def test_tarfile_reads_what_was_written(tmp_path_factory, members):
    path = tmp_path_factory.mktemp("w") / "s.tar"
    written, info = write(path, [Entry(*member) for member in members], sync=False)
    assert contents(path) == members
    raw = path.read_bytes()
    assert written == [
        Written(raw.index(data, row.offset), len(data), digest(data))
        for row, (_, data) in zip(written, members, strict=True)
    ]
    heads = headers([name for name, _ in members], [len(data) for _, data in members])
    assert info == ShardInfo(len(raw), len(members), shard_digest(heads, [digest(data) for _, data in members]))


def test_bytes_do_not_depend_on_batches_or_on_the_call(tmp_path):
    noise = random.Random(0).randbytes(9000)
    entries = [Entry(f"k/{i:05d}.jpg", noise[i % 4000 : i % 4000 + i % 4999]) for i in range(3000)]
    written, info = write(tmp_path / "a.tar", iter(entries))
    with ShardWriter(tmp_path / "b.tar") as writer:
        by_one = [row for entry in entries for row in writer.add([entry])]
    with ShardWriter(tmp_path / "c.tar") as columns:
        placed = columns.add_columns([entry.name for entry in entries], [entry.data for entry in entries])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes() == (tmp_path / "c.tar").read_bytes()
    assert info == writer.close() == columns.close()
    assert written == by_one == list(map(Written, *placed))


def test_a_descriptor_stays_open_and_memoryviews_are_taken(tmp_path):
    with open(tmp_path / "s.tar", "wb") as file:
        write(file.fileno(), [Entry("k.npy", memoryview(bytearray(range(12))).cast("i"))])
        assert os.fstat(file.fileno()).st_size == 2048
    assert contents(tmp_path / "s.tar") == [("k.npy", bytes(range(12)))]


def test_an_empty_shard_is_a_tar(tmp_path):
    assert write(tmp_path / "s.tar", [])[1].members == 0
    assert contents(tmp_path / "s.tar") == []


SIZES = [0, 1, 512, 3000, 65_535, 65_536, 200_001, 5 << 20]


@pytest.fixture
def source(tmp_path):
    """A file and adjacent ranges of it, of the sizes that take different ways into a shard."""
    data = random.Random(1).randbytes(sum(SIZES))
    path = tmp_path / "source.bin"
    path.write_bytes(data)
    starts = [sum(SIZES[:i]) for i in range(len(SIZES))]
    parts = [data[start : start + size] for start, size in zip(starts, SIZES, strict=True)]
    return [Range(str(path), start, size) for start, size in zip(starts, SIZES, strict=True)], parts


def refuse_kernel_copy(*_):
    raise OSError(errno.EXDEV, "cross-device")


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_ranges_give_the_same_shard_as_bytes(tmp_path, source, monkeypatch, kernel, known):
    ranges, parts = source
    expected = write(tmp_path / "bytes.tar", [Entry(f"k{i}.bin", part) for i, part in enumerate(parts)])
    if not kernel:
        monkeypatch.setattr(os, "copy_file_range", refuse_kernel_copy)
    found = write(
        tmp_path / "ranges.tar",
        [
            Entry(f"k{i}.bin", r, digest(part) if known else None)
            for i, (r, part) in enumerate(zip(ranges, parts, strict=True))
        ],
    )
    assert found == expected
    assert (tmp_path / "ranges.tar").read_bytes() == (tmp_path / "bytes.tar").read_bytes()


def test_a_range_whose_digest_is_known_is_not_read(tmp_path, source, monkeypatch):
    ranges, parts = source
    reads = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: reads.append(size) or pread(file, size, at))
    large = [i for i, size in enumerate(SIZES) if size >= 65_536]
    write(tmp_path / "s.tar", [Entry(f"k{i}.bin", ranges[i], digest(parts[i])) for i in large])
    assert reads == []
    write(tmp_path / "t.tar", [Entry(f"k{i}.bin", ranges[i]) for i in large])
    assert sum(reads) == sum(SIZES[i] for i in large)  # exactly one read


def test_the_kernel_may_copy_in_pieces_and_stop(tmp_path, source, monkeypatch):
    ranges, parts = source
    steps = iter([100_000, 50_000, 0])
    copy = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", lambda a, b, n, i, o: (n := next(steps)) and copy(a, b, n, i, o))
    write(tmp_path / "s.tar", [Entry("k.bin", ranges[-1], digest(parts[-1]))])
    assert contents(tmp_path / "s.tar") == [("k.bin", parts[-1])]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [3000, 100_000, 5 << 20])
def test_a_range_beyond_its_file_spoils_the_shard(tmp_path, known, size):
    (tmp_path / "short.bin").write_bytes(bytes(2000))
    writer = ShardWriter(tmp_path / "s.tar")
    too_long = [Entry("k.bin", Range(str(tmp_path / "short.bin"), 0, size), bytes(16) if known else None)]
    if not known:
        with pytest.raises(DataError, match="ends before byte"):
            writer.add(too_long)
        writer.abort()
        return
    writer.add(too_long)  # copied in the background: what fails there, no later call may hide
    writer.add([Entry("l.bin", b"fine")])
    for _ in range(2):
        with pytest.raises(DataError, match="ends before byte"):
            writer.close()


def test_many_sources_need_few_descriptors(tmp_path):
    limit = 100
    for i in range(limit):
        (tmp_path / f"{i}.bin").write_bytes(bytes([i]) * 10)
    write(tmp_path / "s.tar", [Entry(f"k{i}.bin", Range(str(tmp_path / f"{i}.bin"), 0, 10)) for i in range(limit)])
    assert contents(tmp_path / "s.tar") == [(f"k{i}.bin", bytes([i]) * 10) for i in range(limit)]
    assert limit > source_module._MAX_OPEN


def test_an_error_in_the_block_aborts(tmp_path):
    def fail(path):
        with ShardWriter(path) as writer:
            writer.add([Entry("k.jpg", b"1")])
            raise KeyError

    with pytest.raises(KeyError):
        fail(tmp_path / "s.tar")
    assert not (tmp_path / "s.tar").read_bytes().endswith(bytes(1024))


def test_short_writes_are_completed(tmp_path, monkeypatch):
    pwrite, pwritev = os.pwrite, os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda file, pieces, at: pwrite(file, b"".join(pieces)[:700], at))
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: pwrite(file, bytes(data[:700]), at))
    entries = [Entry(f"k{i}.bin", bytes([i]) * 999) for i in range(9)]
    short = write(tmp_path / "short.tar", entries)
    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "pwritev", pwritev)
    assert short == write(tmp_path / "whole.tar", entries)
    assert (tmp_path / "short.tar").read_bytes() == (tmp_path / "whole.tar").read_bytes()


def test_memory_is_bounded_by_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(sink_module, "_SYNC_EVERY", 1 << 20)
    alive = peak = 0

    class Counted(bytes):
        def __new__(cls, size):
            nonlocal alive, peak
            alive += 1
            peak = max(peak, alive)
            return super().__new__(cls, size)

        def __del__(self):
            nonlocal alive
            alive -= 1

    write(tmp_path / "s.tar", (Entry(f"k{i}.bin", Counted(1 << 20)) for i in range(40)))
    assert len(contents(tmp_path / "s.tar")) == 40
    assert peak <= 16  # of 4 MiB: one batch that is gathered, two that wait, one that is let go
