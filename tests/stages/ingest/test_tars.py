import io
import tarfile

import pytest

from stages.base import New
from stages.ingest.tars import WebDataset


def tar(path, members, format=tarfile.USTAR_FORMAT):
    with tarfile.open(path, "w", format=format) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type = tarfile.DIRTYPE
            info.size = len(data or b"")
            file.addfile(info, io.BytesIO(data or b""))
    return path


def test_samples_of_a_foreign_tar(tmp_path, rows, media):
    tar(
        tmp_path / "a.tar",
        [
            ("d/", None),
            ("d/1.jpg", b"jpg"),
            ("d/1.json", b'{"width": 640, "caption": "c", "key": "d/1", "url": "u"}'),
            ("d/1.txt", b"a cat"),
            ("2.cls", b"7"),
            ("2.left.png", b"png"),
            ("2.npy", b"npy"),
            ("3.json", b"{"),
            ("d/1.jpg", b"again"),
            ("README", b""),
        ],
    )
    source = WebDataset(path=str(tmp_path / "a.tar"))
    [origin] = source.origins()
    results = list(source.read(origin))
    found = {result.key: result for result in results if isinstance(result, New)}
    assert found["d/1"].columns == {"width": 640, "caption": "c", "text": "a cat", "extra": '{"url":"u"}'}
    assert media(found["d/1"].parts["image"]) == b"jpg"
    assert found["2"].columns == {"text": "7"}
    assert {name: media(part) for name, part in found["2"].parts.items()} == {"left": b"png", "npy": b"npy"}
    assert found["2"].parts["left"].format == "png"
    assert {(result.key, result.reason) for result in results if not isinstance(result, New)} == {
        ("d/", "directory"),
        ("3", "broken_json"),
        ("README", "no_extension"),
        ("d/1", "duplicate_key"),
    }
    assert source.writes().parts == ("image", "left", "npy")


def test_a_text_file_comes_before_a_json_field_and_both_stay(tmp_path, rows):
    members = [
        ("1.json", b'{"text": "json", "extra": {"a": 1}}'),
        ("1.txt", b"txt"),
        ("2.json", b'{"text": "same"}'),
        ("2.txt", b"same\n"),
        ("3.json", b'{"text": "json", "extra": {"text": "older"}}'),
        ("3.txt", b"txt"),
    ]
    found = rows(WebDataset(path=str(tar(tmp_path / "a.tar", members))))
    assert [result.columns for result in found.values()] == [
        {"text": "txt", "extra": '{"a":1,"text":"json"}'},
        {"text": "same"},
        {"text": "txt", "extra": '{"json.text":"json","text":"older"}'},
    ]
    columns = WebDataset(path=str(tmp_path / "a.tar"), text="caption")
    assert rows(columns)["1"].columns == {"text": "json", "caption": "txt", "extra": '{"a":1}'}


def test_columns_and_parts_come_from_several_tars(tmp_path, rows):
    assert WebDataset(path=str(tmp_path)).writes().fields.keys() == {"extra"}
    tar(tmp_path / "a.tar", [("1.json", b'{"text": "x", "language": null}')])
    tar(tmp_path / "b.tar", [("2.json", b'{"text": "y", "language": "en"}'), ("2.wav", b"wav")])
    source = WebDataset(path=str(tmp_path))
    assert source.writes().fields.keys() == {"text", "language", "extra"}
    assert source.writes().parts == ("audio",)
    assert rows(source)["2"].columns == {"text": "y", "language": "en"}
    tar(tmp_path / "c.tar", [])
    tar(tmp_path / "b.tar", [("2.json", b'{"text": "y", "language": "en"}')])
    for name in "defg":
        tar(tmp_path / f"{name}.tar", [(f"{name}.json", b'{"task": "asr"}')])
    few = WebDataset(path=str(tmp_path))  # a, d and g are looked into
    assert few.writes().fields.keys() == {"text", "task", "extra"}
    assert rows(few)["2"].columns == {"text": "y", "extra": '{"language":"en"}'}


@pytest.mark.parametrize(("cut", "whole"), [(1724, ["0"]), (3584, ["0", "1", "2"]), (2148, ["0"])])
def test_a_cut_tar_gives_what_is_surely_whole_and_one_reject(tmp_path, rows, cut, whole):
    """At 2148 the next name is unknown: sample 1 might have gone on."""
    members = [(f"{i}.jpg", bytes([i]) * 512) for i in range(5)]
    data = tar(tmp_path / "a.tar", members).read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:cut])
    found = rows(WebDataset(path=str(tmp_path)))
    assert [key for key, result in found.items() if isinstance(result, New)] == whole
    [reject] = [result for result in found.values() if not isinstance(result, New)]
    assert reject.reason == "truncated"


def test_a_compressed_tar_is_a_reject_not_an_end(tmp_path, rows):
    tar(tmp_path / "b.tar", [("1.jpg", b"x")])
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b" + bytes(2000))
    found = rows(WebDataset(path=str(tmp_path)))
    assert found["a.tar"].reason == "compressed_tar"
    assert isinstance(found["1"], New)


def test_our_own_shards_and_remote_ones(tmp_path, rows, media):
    fsspec = pytest.importorskip("fsspec")
    from schemas.shards.writer import Entry, ShardWriter

    writer = ShardWriter(tmp_path / "s.tar")
    record = b'{"key":"speech/digits/1","text":"one","duration":1.5,"extra":"{\\"a\\":1}","score":{"wer":0.0}}'
    writer.add([Entry("speech/digits/1.json", record), Entry("speech/digits/1.wav", b"wav")])
    writer.close()
    fsspec.filesystem("memory").pipe("/shards/s.tar", (tmp_path / "s.tar").read_bytes())
    for path in (str(tmp_path / "s.tar"), "memory://shards/s.tar"):
        source = WebDataset(path=path)
        [(key, result)] = rows(source).items()
        assert key == "speech/digits/1"
        assert result.columns == {"text": "one", "duration": 1.5, "extra": '{"a":1,"score":{"wer":0.0}}'}
        assert media(result.parts["audio"]) == b"wav"
        columns = WebDataset(path=path, columns={"text": "string", "score": "json"})
        assert rows(columns)[key].columns["score"] == '{"wer":0.0}'
