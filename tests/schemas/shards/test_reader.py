"""Walking tars of every kind, whole and broken, and grouping their members."""

import gzip
import io
import random
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DataError
from schemas.shards import (
    TRAILER,
    Entry,
    Member,
    SampleMembers,
    ShardWriter,
    Skipped,
    headers,
    read_samples,
    samples,
    walk,
)
from schemas.shards.parse import plain_members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
TEXT = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=80)
NAMES = st.lists(TEXT, min_size=1, max_size=5).map("/".join).filter(lambda name: name.strip("/") == name)


def make_tar(members, format=tarfile.PAX_FORMAT, mtime=0):
    """A tar of (name, bytes) and TarInfo members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for member in members:
            info, data = (
                (member, b"") if isinstance(member, tarfile.TarInfo) else (tarfile.TarInfo(member[0]), member[1])
            )
            info.size = len(data)
            info.mtime = mtime
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def special(name, kind, linkname=""):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = linkname
    return info


def found_in(raw):
    """(name, data) of the members, then what was skipped as (name, reason)."""
    rows = list(walk(io.BytesIO(raw)))
    members = [(row.name, raw[row.offset : row.offset + row.size]) for row in rows if isinstance(row, Member)]
    return members, [(row.name, row.reason) for row in rows if isinstance(row, Skipped)]


def ours(tmp_path, members):
    with ShardWriter(tmp_path / "ours.tar", sync=False) as writer:
        writer.add(Entry(name, data) for name, data in members)
    return (tmp_path / "ours.tar").read_bytes()


@given(st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=12), st.sampled_from(["gnu", "pax"]))
@settings(deadline=None, max_examples=200)
def test_what_tarfile_writes_is_read(members, format):
    for mtime in (0, 1.5):  # a float costs a PAX header in front of each member
        assert found_in(make_tar(members, FORMATS[format], mtime)) == (members, [])


@pytest.mark.parametrize("format", FORMATS)
def test_many_plain_members_with_some_that_are_not(format):
    noise = random.Random(2).randbytes(70_000)
    members = [(f"d/{i:05d}.bin", noise[: i * 37 % 3000]) for i in range(3000)]
    members[700] = ("e" * 99 + "/" + "x" * 99, noise)
    members[701] = ("d/701.tar", make_tar(members[:50]))  # headers among the data
    members[1500:1501] = [(f"é/{i}.txt", b"1") for i in range(50)] if format != "ustar" else []
    assert found_in(make_tar(members, FORMATS[format])) == (members, [])


@pytest.mark.parametrize("format", ["ours", *FORMATS])
def test_plain_members_are_read_many_at_once(tmp_path, format):
    members = [(f"d/{i:05d}.bin", bytes(i)) for i in range(1000)]
    raw = ours(tmp_path, members) if format == "ours" else make_tar(members, FORMATS[format])
    found = plain_members(memoryview(raw), 512)  # as if it came after one block
    assert found.names == [name for name, _ in members]
    assert found.sizes == list(range(1000))
    assert [raw[start - 512 - 512 :][:11] for start in found.starts] == [name.encode() for name, _ in members]
    assert raw[found.end - 512 :][:1024] == TRAILER
    assert plain_members(memoryview(raw)[1024:], 0) is None  # data


@given(st.lists(st.integers(0, 300_000), max_size=20))
@settings(deadline=None, max_examples=30)
def test_any_mixture_of_sizes(tmp_path_factory, sizes):
    members = [(f"k{i}.bin", random.Random(i).randbytes(size)) for i, size in enumerate(sizes)]
    folder = tmp_path_factory.mktemp("m")
    assert found_in(ours(folder, members)) == (members, [])
    assert list(read_samples(folder / "ours.tar")) == [(name[:-4], {"bin": data}) for name, data in members]


def test_what_is_no_file_is_named():
    raw = make_tar(
        [
            special("d", tarfile.DIRTYPE),
            ("d/k.jpg", b"1"),
            special("d/l.jpg", tarfile.SYMTYPE, "x" * 200),
            special("d/h.jpg", tarfile.LNKTYPE, "d/k.jpg"),
            special("d/fifo", tarfile.FIFOTYPE),
            special("d/tty", tarfile.CHRTYPE),
            ("d/m.jpg", b"2"),
        ],
        tarfile.GNU_FORMAT,
    )
    members, skipped = found_in(raw)
    assert members == [("d/k.jpg", b"1"), ("d/m.jpg", b"2")]
    assert skipped == [
        ("d/", "directory"),
        ("d/l.jpg", "link"),
        ("d/h.jpg", "link"),
        ("d/fifo", "device"),
        ("d/tty", "device"),
    ]


def patched(header, changes):
    """A header block with other fields and the checksum that belongs to them."""
    block = bytearray(header)
    for at, value in changes.items():
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def plain(name, size=0):
    return headers([name], [size])[0]


def test_old_v7_headers():
    header = patched(plain("k.jpg", 3), {100: b"   644 \0", 124: b"          3 ", 156: b"\0", 257: bytes(255)})
    folder = patched(plain("d"), {0: b"d/\0", 156: b"\0", 257: bytes(255)})
    assert found_in(folder + header + b"abc" + bytes(509) + TRAILER) == ([("k.jpg", b"abc")], [("d/", "directory")])


def test_signed_checksums_and_names_that_are_not_utf8():
    block = bytearray(patched(plain("k.jpg"), {0: "测.jpg".encode("gbk")}))
    assert found_in(bytes(block) + TRAILER)[0] == [(r"\xb2\xe2.jpg", b"")]
    block[148:156] = b"%06o\0 " % (int(block[148:154], 8) - 2 * 256)
    assert found_in(bytes(block) + TRAILER)[0] == [(r"\xb2\xe2.jpg", b"")]


def test_a_name_ends_at_its_nul():
    junk = [patched(plain(f"k{i}.jpg"), {20: b"junk"}) for i in range(40)]
    assert found_in(b"".join(junk) + TRAILER) == ([(f"k{i}.jpg", b"") for i in range(40)], [])


def test_unknown_types_are_passed_over_with_their_data():
    volume = patched(plain("label"), {156: b"V"})
    other = patched(plain("acl", 600), {156: b"A"}) + bytes(b"\1" * 1024)
    assert found_in(volume + other + plain("k.jpg") + TRAILER) == (
        [("k.jpg", b"")],
        [("label", "unknown_type"), ("acl", "unknown_type")],
    )


@pytest.mark.parametrize("options", [["gnu"], ["posix", "--sparse-version=0.1"], ["posix", "--sparse-version=1.0"]])
def test_sparse_files_are_named_and_passed_over(tmp_path, options):
    with open(tmp_path / "s.bin", "wb") as file:
        for i in range(40):  # more extents than the map in a header holds
            file.seek(i << 16)
            file.write(b"data")
        file.truncate(4 << 20)
    (tmp_path / "k.jpg").write_bytes(b"1")
    command = ["tar", "-S", "--format", *options, "-C", tmp_path, "-cf", tmp_path / "s.tar", "s.bin", "k.jpg"]
    subprocess.run(command, check=True)
    assert found_in((tmp_path / "s.tar").read_bytes()) == ([("k.jpg", b"1")], [("s.bin", "sparse")])


def test_global_records_hold_for_all_members():
    info = tarfile.TarInfo("k.jpg")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "é", "path": "all.jpg"}) as tar:
        tar.addfile(info)
        tar.addfile(info)
    assert found_in(buffer.getvalue())[0] == [("all.jpg", b"")] * 2


@pytest.mark.parametrize("size", [8 << 30, (8 << 30) + 1])
@pytest.mark.parametrize("format", ["ours", "gnu", "pax"])
def test_members_of_8_gib(tmp_path, size, format):
    if format == "ours":
        header = headers(["k.mp4"], [size])[0]
    else:
        info = tarfile.TarInfo("k.mp4")
        info.size = size
        header = info.tobuf(FORMATS[format])
    end = len(header) + -(-size // 512) * 512
    with open(tmp_path / "large.tar", "wb") as file:  # a hole, not 8 GiB
        file.write(header)
        file.seek(end)
        file.write(plain("k.json") + TRAILER)
    assert list(walk(tmp_path / "large.tar")) == [Member("k.mp4", len(header), size), Member("k.json", end + 512, 0)]


MIXED = [("a.jpg", b"1" * 700), ("a.json", b"{}"), ("é" * 80 + ".jpg", b"2" * 1500), ("b.jpg", b"3")]


@pytest.mark.parametrize("format", ["ours", "gnu", "pax"])
def test_cut_anywhere_the_whole_members_stay(tmp_path, format):
    raw = ours(tmp_path, MIXED) if format == "ours" else make_tar(MIXED, FORMATS[format])
    whole = [row for row in walk(io.BytesIO(raw)) if isinstance(row, Member)]
    end = whole[-1].offset + 512
    for cut in [*range(0, end, 64), *range(1, end, 509), end, end + 100]:
        *rows, last = walk(io.BytesIO(raw[:cut]))
        assert rows == [row for row in whole if row.offset + row.size <= cut]
        assert isinstance(last, Skipped)
        assert last.reason == "truncated"
        assert last.offset <= cut
    assert list(walk(io.BytesIO(raw[: end + 512]))) == whole  # one zero block is an end


def test_cut_among_many_members(tmp_path):
    raw = ours(tmp_path, [(f"k{i}.bin", bytes(3000)) for i in range(200)])
    rows = list(walk(io.BytesIO(raw[: 100 * 3584 + 512 + 2999])))
    assert rows[-1] == Skipped("k100.bin", "truncated", 100 * 3584)
    assert [row.name for row in rows[:-1]] == [f"k{i}.bin" for i in range(100)]


@pytest.mark.parametrize("count", [3, 300])
@pytest.mark.parametrize("change", [{0: b"K"}, {148: b"zzzzzz"}, {124: b"9"}])
def test_a_broken_header_ends_the_walk(tmp_path, count, change):
    raw = bytearray(ours(tmp_path, [(f"k{i}.bin", bytes(3000)) for i in range(count)]))
    broken = (count - 1) * 3584
    for at, value in change.items():
        raw[broken + at : broken + at + len(value)] = value
    rows = list(walk(io.BytesIO(raw)))
    assert [row.name for row in rows] == [f"k{i}.bin" for i in range(count - 1)] + [""]
    assert rows[-1] == Skipped("", "bad_header", broken)


@pytest.mark.parametrize(
    "bad",
    [
        b"not a tar at all " * 100,
        random.Random(3).randbytes(4096),
        patched(plain("././@PaxHeader", 2 << 20), {156: b"x"}) + bytes(3 << 20),
        patched(plain("././@PaxHeader", 11), {156: b"x"}) + b"99 path=abc" + bytes(501) + plain("k.jpg"),
        patched(plain("././@PaxHeader", 11), {156: b"x"}) + b"11 path=abc" + bytes(501) + plain("k.jpg"),
        patched(plain("././@PaxHeader", 11), {156: b"x"}) + b"-1 path=abc" + bytes(501) + plain("k.jpg"),
        patched(plain("././@PaxHeader", 10), {156: b"x"}) + b"10 size=z\n" + bytes(502) + plain("k.jpg"),
        patched(plain("k.jpg"), {124: b"\xff" * 12}),
    ],
)
def test_garbage_is_one_bad_header(bad):
    assert list(walk(io.BytesIO(bad + TRAILER))) == [Skipped("", "bad_header", 0)]


def test_an_empty_file_is_truncated():
    assert list(walk(io.BytesIO())) == [Skipped("", "truncated", 0)]


def test_a_second_tar_behind_the_first_is_noticed(tmp_path):
    raw = ours(tmp_path, [("a.jpg", b"1")])
    rows = list(walk(io.BytesIO(raw + bytes(10240) + raw)))
    assert rows == [Member("a.jpg", 512, 1), Skipped("", "trailing_data", 1024)]
    assert [type(row) for row in samples(rows)] == [Skipped, SampleMembers]


@pytest.mark.parametrize(
    ("start", "method"), [(b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd")]
)
def test_compressed_tars_are_refused(tmp_path, start, method):
    with pytest.raises(DataError, match=f"compressed with {method}"):
        list(walk(io.BytesIO(start + bytes(600))))
    path = tmp_path / "s.tgz"
    path.write_bytes(gzip.compress(make_tar([("a.jpg", b"1")])))
    with pytest.raises(DataError, match=r"s\.tgz is compressed with gzip\n.*unpack it first"):
        list(walk(path))


class Trickle(io.RawIOBase):
    """A file object whose reads stop short, as raw ones may, and that counts them."""

    def __init__(self, raw):
        self.raw = io.BytesIO(raw)
        self.bytes = 0

    def seek(self, offset, whence=0):
        return self.raw.seek(offset, whence)

    def read(self, size=-1):
        data = self.raw.read(min(size, 1000))
        self.bytes += len(data)
        return data


def test_raw_file_objects_and_large_members_that_are_passed_over(tmp_path):
    raw = ours(tmp_path, [(f"k{i}.bin", bytes(1_000_000)) for i in range(20)])
    file = Trickle(raw)
    assert len(list(walk(file))) == 20
    assert file.bytes < len(raw) / 3
