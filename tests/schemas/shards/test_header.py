"""Headers of ours, read by tarfile and by GNU tar."""

import io
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DataError
from schemas.shards import TRAILER, entry_size, header_size, headers

GIB = 1 << 30
PART = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=70)
ASCII_PART = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"), min_size=1, max_size=120
)
NAMES = st.lists(PART, min_size=1, max_size=5).map("/".join) | st.lists(ASCII_PART, min_size=1, max_size=4).map(
    "/".join
)
SIZES = st.integers(0, 5000) | st.sampled_from([8 * GIB - 1, 8 * GIB, 3 << 40])


def read_back(header: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(header + TRAILER), mode="r:") as tar:
        return tar.next()


@given(st.lists(st.tuples(NAMES, SIZES), min_size=1, max_size=8))
@settings(deadline=None, max_examples=200)
def test_tarfile_reads_names_and_sizes_back(members):
    names = [name for name, _ in members]
    sizes = [size for _, size in members]
    for name, size, header in zip(names, sizes, headers(names, sizes), strict=True):
        assert len(header) == header_size(name, size)
        assert entry_size(name, size) == len(header) + -(-size // 512) * 512
        found = read_back(header)
        assert (found.name, found.size, found.isreg()) == (name, size, True)
        assert (found.mtime, found.mode, found.uid, found.gid, found.uname) == (0, 0o644, 0, 0, "")


@given(st.lists(st.tuples(NAMES, SIZES), min_size=2, max_size=8))
@settings(deadline=None)
def test_a_header_does_not_depend_on_its_batch(members):
    together = headers([name for name, _ in members], [size for _, size in members])
    assert together == [headers([name], [size])[0] for name, size in members]


@pytest.mark.parametrize(
    ("name", "size", "blocks"),
    [
        ("k.jpg", 10, 1),
        ("x" * 100, 10, 1),
        ("x" * 101, 10, 3),
        ("d" * 155 + "/" + "x" * 100, 10, 1),
        ("d" * 156 + "/" + "x" * 100, 10, 3),
        ("d" * 150 + "/" + "x" * 101, 10, 3),
        ("/" + "x" * 101, 10, 3),  # an empty prefix would lose the slash
        ("人.jpg", 10, 3),
        ("k.mp4", 8 * GIB - 1, 1),
        ("k.mp4", 8 * GIB, 3),
        ("長" * 400, 10, 5),  # a record of 1,211 bytes takes three blocks
    ],
)
def test_pax_only_where_ustar_cannot_say_it(name, size, blocks):
    header = headers([name], [size])[0]
    assert len(header) == 512 * blocks == header_size(name, size)
    assert header[156:157] == (b"0" if blocks == 1 else b"x")
    assert read_back(header).name == name


@given(st.integers(1, 1300))
@settings(deadline=None)
def test_a_pax_record_counts_its_own_digits(length):
    name = "é" + "x" * length
    assert read_back(headers([name], [0])[0]).name == name


@pytest.mark.parametrize("name", ["", "folder/", "a\0b", "\0", "\ud800.jpg"])
@pytest.mark.parametrize("others", [[], ["k.jpg"], ["é.jpg"]])
def test_names_that_no_tar_can_hold(name, others):
    with pytest.raises(DataError, match="not a valid member name"):
        headers([*others, name], [1] * (len(others) + 1))


def test_no_members():
    assert headers([], []) == []


def test_gnu_tar_lists_names_sizes_and_times(tmp_path):
    names = ["asterisk/ab-cd.json", "k.speech.wav", "d" * 120 + "/" + "x" * 90, "录音/一.wav", "é" * 120]
    data = [b"x" * size for size in (0, 1, 511, 512, 513)]
    tar = b"".join(
        header + part + bytes(-len(part) % 512)
        for header, part in zip(headers(names, [0, 1, 511, 512, 513]), data, strict=True)
    )
    path = tmp_path / "t.tar"
    path.write_bytes(tar + TRAILER)
    listing = subprocess.run(
        ["tar", "--quoting-style=literal", "--utc", "-tvf", path], capture_output=True, text=True, check=True
    )
    assert listing.stderr == ""
    rows = [line.split(maxsplit=5) for line in listing.stdout.splitlines()]
    assert [row[5] for row in rows] == names
    assert [int(row[2]) for row in rows] == [0, 1, 511, 512, 513]
    assert {(row[0], row[1], row[3]) for row in rows} == {("-rw-r--r--", "0/0", "1970-01-01")}
    subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
    assert [(tmp_path / name).read_bytes() for name in names] == data
