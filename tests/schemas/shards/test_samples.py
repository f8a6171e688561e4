"""Grouping members into samples, and reading samples."""

import pytest

from schemas.errors import DataError
from schemas.shards import Entry, Member, ShardWriter, Skipped, TruncatedShard, read_samples, samples, split_name, walk


def ours(tmp_path, members):
    with ShardWriter(tmp_path / "ours.tar", sync=False) as writer:
        writer.add(Entry(name, data) for name, data in members)
    return (tmp_path / "ours.tar").read_bytes()


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [
        ("asterisk/ab-cd.speech.WAV", "asterisk/ab-cd", "speech.wav"),
        ("a.b/c.d/k.jpg", "a.b/c.d/k", "jpg"),
        ("../../etc/k.jpg", "../../etc/k", "jpg"),
        ("/k.jpg", "/k", "jpg"),
        ("_k.jpg", "_k", "jpg"),
        ("__k.jpg", "__k", "jpg"),
        ("__meta__.jpg", "__meta__", "jpg"),
    ],
)
def test_names_split_as_in_webdataset(name, key, extension):
    from webdataset.tariterators import base_plus_ext

    assert split_name(name) == (key, extension)
    assert base_plus_ext(name) == (key, name[len(key) + 1 :])


@pytest.mark.parametrize("name", ["README", "a/.hidden", ".hidden.jpg", "k.", "a.b/c", "__meta__/k.jpg", "__m__"])
def test_names_without_a_key(tmp_path, name):
    assert split_name(name) == ("", "")
    ours(tmp_path, [("a.jpg", b"1"), (name, b"2"), ("a.json", b"3")])
    assert list(read_samples(tmp_path / "ours.tar")) == [("a", {"jpg": b"1", "json": b"3"})]
    found = list(samples(walk(tmp_path / "ours.tar")))
    reason = "metadata" if name.startswith("__") else "no_extension"
    assert [row[:2] for row in found if isinstance(row, Skipped)] == [(name, reason)]
    assert [(row.key, list(row.members)) for row in found if not isinstance(row, Skipped)] == [("a", ["jpg", "json"])]


def grouped(names, tail=None):
    """(key, extensions, reasons) of samples, and Skipped as they are, from members of 10 bytes."""
    rows = [Member(name, 1024 * i + 512, 10) for i, name in enumerate(names)] + ([tail] if tail else [])
    return [
        row if isinstance(row, Skipped) else (row.key, list(row.members), [problem.reason for problem in row.problems])
        for row in samples(rows)
    ]


def test_duplicates_are_problems_of_the_later_ones():
    assert grouped(["a.jpg", "a.JPG", "b.jpg", "a.json", "c.x.wav", "c.wav"]) == [
        ("a", ["jpg"], ["duplicate_key"]),
        ("b", ["jpg"], []),
        ("a", ["json"], ["duplicate_key"]),
        ("c", ["x.wav", "wav"], []),
    ]


@pytest.mark.parametrize("reason", ["truncated", "bad_header"])
def test_a_break_is_one_problem(reason):
    unknown, same, other = (Skipped(name, reason, 9) for name in ("", "b.json", "c.jpg"))
    assert grouped(["a.jpg", "b.jpg"], unknown) == [("a", ["jpg"], []), ("b", ["jpg"], [reason])]
    assert grouped(["a.jpg", "b.jpg"], same) == [("a", ["jpg"], []), ("b", ["jpg"], [reason])]
    assert grouped(["a.jpg", "b.jpg"], other) == [("a", ["jpg"], []), other, ("b", ["jpg"], [])]
    assert grouped([], unknown) == [unknown]


def test_read_samples_gives_what_is_surely_whole_then_raises(tmp_path):
    raw = ours(tmp_path, [("a.jpg", b"1"), ("b.jpg", b"2"), ("b.json", b"3" * 9)])
    path = tmp_path / "cut.tar"
    for cut, keys in ((2 * 1024 + 515, ["a"]), (2 * 1024 + 100, ["a"]), (1024 + 512, ["a"]), (1024, [])):
        path.write_bytes(raw[:cut])
        found: list[str] = []
        with pytest.raises(TruncatedShard) as error:
            found.extend(key for key, _ in read_samples(path))
        assert found == keys
        assert (error.value.path, error.value.reason) == (str(path), "truncated")
        assert error.value.offset <= cut


def test_read_samples_refuses_an_extension_twice(tmp_path):
    ours(tmp_path, [("a.jpg", b"1"), ("a.JPG", b"2")])
    with pytest.raises(DataError, match=r"a\.JPG twice"):
        list(read_samples(tmp_path / "ours.tar"))
