import os

import pytest

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
            "README.md": b"no sample",
            ".hidden/c.jpg": b"no sample",
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
