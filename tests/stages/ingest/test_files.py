import os

import pytest

from schemas.sample import KINDS
from stages.base import New, Reject
from stages.ingest.files import Files


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_a_stem_is_a_sample(tmp_path, rows, media):
    write(
        tmp_path,
        {
            "a.JPG": b"jpg",
            "a.txt": b"\xef\xbb\xbfa cat\n",
            "a.json": b'{"width": 4, "license": "CC0-1.0", "camera": {"iso": 100}, "key": "x"}',
            "sub/b.v2.png": b"png",
            "sub/b.v2.jpeg": b"jpeg",
        },
    )
    source = Files(root=str(tmp_path), text="caption")
    found = rows(source)
    assert list(found) == ["a", "sub/b.v2"]
    assert found["a"].columns == {
        "caption": "a cat",
        "width": 4,
        "license": "CC0-1.0",
        "extra": '{"camera":{"iso":100},"key":"x"}',
    }
    part = found["a"].parts["image"]
    assert (part.format, media(part)) == ("jpg", b"jpg")
    assert {name: media(p) for name, p in found["sub/b.v2"].parts.items()} == {"image": b"jpeg", "png": b"png"}


def test_files_that_are_no_samples(tmp_path, rows):
    passed = [".hidden/c.jpg", ".DS_Store", "sub/Thumbs.db", "desktop.ini", "._a.jpg"]
    unknown = ["README.md", "LICENSE", "sub/a.HEIC", "sub/a.heif", "a"]
    write(tmp_path, dict.fromkeys([*passed, *unknown, "a.jpg", "b.jpg", "sub/a.txt"], b"x"))
    found = rows(Files(root=str(tmp_path / "sub")))
    assert {key: getattr(result, "reason", None) for key, result in found.items()} == {
        "a": None,
        "a.HEIC": "unknown_format",
        "a.heif": "unknown_format",
    }
    assert found["a.HEIC"].detail == ".HEIC"
    source = Files(root=str(tmp_path))
    results = [(origin.name, *source.read(origin)) for origin in source.origins()]
    assert [(name, getattr(result, "reason", None)) for name, result in results] == [
        ("LICENSE", "unknown_format"),
        ("README.md", "unknown_format"),
        ("a", None),
        ("a", "unknown_format"),
        ("b", None),
        ("sub/a", None),
        ("sub/a.HEIC", "unknown_format"),
        ("sub/a.heif", "unknown_format"),
    ]
    assert source.writes().parts == ("image",)


def test_the_documentation_names_all_extensions():
    for extension in (*KINDS, "txt", "json"):
        assert f".{extension}" in Files.__doc__


@pytest.mark.parametrize(
    ("file", "data", "reason"),
    [
        ("a.txt", b"\xff", "not_utf8"),
        ("a.json", b"{", "broken_json"),
        ("a.json", b"[1]", "not_an_object"),
        ("a.json", b'{"text": "\\ud800"}', "lone_surrogate"),
        ("a.json", b"[" * 100_000, "broken_json"),
        ("a.jpg", b"", "duplicate_part"),
    ],
)
def test_what_is_broken_is_rejected_alone(tmp_path, rows, file, data, reason):
    write(tmp_path, {"a.JPG": b"x", "b.jpg": b"x", file: data})
    found = rows(Files(root=str(tmp_path)))
    assert isinstance(found["b"], New)
    assert found["a"].reason == reason


def test_names_that_cannot_be_opened_are_rejected(tmp_path, rows):
    write(tmp_path, {"a.jpg": b"x"})
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    with open(os.fsencode(str(tmp_path)) + b"/\xff.jpg", "wb"):
        pass
    found = rows(Files(root=str(tmp_path)))
    reasons = {result.reason for result in found.values() if isinstance(result, Reject)}
    assert len(found) == 3
    assert reasons == {"missing_file", "name_not_utf8"}


def test_a_new_file_changes_no_other_origin(tmp_path):
    write(tmp_path, {f"{i}.jpg": b"x" for i in range(9)})
    source = Files(root=str(tmp_path))
    before = list(source.origins())
    write(tmp_path, {"4.txt": b"x", "44.jpg": b"x"})
    after = {origin.name: origin for origin in source.origins()}
    assert [origin.name for origin in before if after[origin.name] != origin] == ["4"]


def test_an_undeclared_text_column_is_a_problem(tmp_path):
    write(tmp_path, {"a.txt": b"x"})
    assert list(Files(root=str(tmp_path)).check()) == []
    assert "add it to `columns`" in next(Files(root=str(tmp_path), text="poem").check())
    assert list(Files(root=str(tmp_path), text="poem", columns={"poem": "string"}).check()) == []
    assert "no files" in next(Files(root=str(tmp_path / "*.gif")).check())


def test_remote_folders(rows, media):
    fsspec = pytest.importorskip("fsspec")
    fs = fsspec.filesystem("memory")
    fs.pipe({"/photos/a.jpg": b"jpg", "/photos/a.txt": b"a cat", "/photos/sub/b.png": b"png"})
    found = rows(Files(root="memory://photos"))
    assert list(found) == ["a", "sub/b"]
    assert found["a"].columns == {"text": "a cat"}
    assert media(found["sub/b"].parts["image"]) == b"png"
