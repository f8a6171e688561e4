"""Every form is read back by code that knows nothing of ours, and compared with what was exported."""

from __future__ import annotations

import base64
import io
import json
import os
import wave
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.export.media import MediaFolder, file_stem
from pipelines.export.rows import rows
from pipelines.inspect.dataset import open_dataset
from pipelines.view.media import Media
from schemas.errors import SampleError
from schemas.message import Medium, Message, Text, dump_messages
from schemas.store import Store


def omnicurate(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output + repr(result.exception)
    assert "Traceback" not in result.output
    return result.output


def export(form: str, *options: str) -> dict:
    return json.loads(omnicurate("export", "out/set", form, "-o", f"as/{form}", "--json", *options))


def publish(rows: list[dict], media: dict[str, str], columns: dict[str, str], name: str = "set") -> None:
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"path": f"{name}.jsonl", "id": "id", "media": media, "columns": columns, "unit": 4}
    output = {"pack": name, "to": f"out/{name}", "shard": {"samples": 3}}
    recipe = {"flows": {name: [{"ingest.jsonl": source}]}, "outputs": {name: output}}
    Path("r.yaml").write_text(json.dumps(recipe))
    omnicurate("run", "r.yaml", "--engine", "local")


def sound(number: int, seconds: float = 0.25) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes([number % 256, 0]) * round(8000 * seconds))
    return out.getvalue()


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def content(*items: str) -> list[Text | Medium]:
    """`image:left` is a medium, anything else a text."""
    kinds = ("image", "audio", "video")
    pairs = [(item, item.partition(":")) for item in items]
    return [Medium(type=p[0], part=p[2]) if p[0] in kinds and p[1] else Text(text=item) for item, p in pairs]


CHATS: dict[str, list[tuple[str, list[Text | Medium]]]] = {
    "a/0": [("system", content("be brief")), ("user", content("image:left", "what?")), ("assistant", content("a cat"))],
    "b.1 ü": [
        ("user", content("image:left", "audio:talk", "and", " this:", "image:right")),
        ("assistant", content("é\n")),
    ],
    "c": [("user", content("video:film", "film\n")), ("assistant", content("yes"))],
    "d": [("user", content("text alone")), ("assistant", content("too"))],
}
FILES = {"left": "jpg", "right": "png", "talk": "wav", "film": "mp4"}


def medium(key: str, part: str) -> bytes:
    return f"{part} of {key}".encode() * 1000


def chats() -> list[str]:
    """Publish the conversations; the keys in their order."""
    rows = []
    for i, (key, turns) in enumerate(CHATS.items()):
        messages = [Message(role=role, content=items) for role, items in turns]  # type: ignore[arg-type]
        row = {"id": key, "messages": dump_messages(messages)}
        for part in {item.part for _, items in turns for item in items if isinstance(item, Medium)}:
            row[part] = f"{part}{i}.{FILES[part]}"
            Path(row[part]).write_bytes(medium(key, part))
        rows.append(row)
    publish(rows, {part: part for part in FILES}, {"messages": "string"})
    shown = omnicurate("show", "out/set", "-n", "9", "--json").splitlines()
    return [json.loads(line)["key"] for line in shown]


def source_key(key: str) -> str:
    return next(name for name in CHATS if f"set/{name}".replace(".", "%2E") == key)


def lines(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_llava():
    keys = chats()
    report = export("llava")
    assert (report["samples"], report["skipped"]) == (4, {})
    found = json.loads(Path("as/llava/data.json").read_text())
    assert [sample["id"] for sample in found] == keys
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    for sample in found:
        key = source_key(sample["id"])
        left = {k: list(v) if isinstance(v := sample.get(k, []), list) else [v] for k in ("image", "audio", "video")}
        for turn, (role, items) in zip(sample["conversations"], CHATS[key], strict=True):
            assert roles[turn["from"]] == role
            rest = turn["value"]
            for item in items:
                if isinstance(item, Medium):
                    assert rest.startswith(f"<{item.type}>")
                    rest = rest.removeprefix(f"<{item.type}>").removeprefix("\n")
                    assert Path("as/llava", left[item.type].pop(0)).read_bytes() == medium(key, item.part)
                else:
                    assert rest.startswith(item.text)
                    rest = rest.removeprefix(item.text)
                    rest = rest.removeprefix("\n") if rest.startswith("\n<") else rest
            assert rest == ""
        assert not any(left.values())


@pytest.mark.parametrize("inline", [False, True])
def test_openai(inline):
    keys = chats()
    export("openai", *["--inline"] * inline)
    found = lines("as/openai/messages.jsonl")
    assert len(found) == len(keys)
    for chat, published_key in zip(found, keys, strict=True):
        key = source_key(published_key)
        assert list(chat) == ["messages"]
        for message, (role, items) in zip(chat["messages"], CHATS[key], strict=True):
            assert message["role"] == role
            if isinstance(message["content"], str):
                assert message["content"] == "".join(item.text for item in items)
                continue
            for part, item in zip(message["content"], items, strict=True):
                value = part[part["type"]]
                if part["type"] == "text":
                    assert value == item.text
                elif part["type"] == "input_audio":
                    assert (base64.b64decode(value["data"]), value["format"]) == (medium(key, item.part), "wav")
                elif inline:
                    head, data = value["url"].split(",")
                    kind = {"jpg": "image/jpeg", "png": "image/png", "mp4": "video/mp4"}[FILES[item.part]]
                    assert head == f"data:{kind};base64"
                    assert base64.b64decode(data) == medium(key, item.part)
                else:
                    assert part["type"] == f"{item.type}_url"
                    assert Path("as/openai", value["url"]).read_bytes() == medium(key, item.part)
    assert Path("as/openai/media").exists() != inline


def test_interleaved():
    keys = chats()
    export("interleaved")
    table = pq.read_table("as/interleaved/data.parquet")
    types = ["string", "int32", *["string"] * 3, "binary", *["string"] * 2]
    assert [str(field.type) for field in table.schema] == types
    found: dict[str, list] = {}
    for row in table.to_pylist():
        assert row["position"] == len(found.setdefault(row["sample_id"], []))
        assert row["materialize_error"] is None
        if row["modality"] == "text":
            assert (row["content_type"], row["binary_content"], row["source_ref"]) == ("text/plain", None, None)
            found[row["sample_id"]].append(row["text_content"])
        else:
            where = json.loads(row["source_ref"])
            raw = Path("out/set/latest", where["path"]).read_bytes()[where["byte_offset"] :][: where["byte_size"]]
            assert raw == row["binary_content"]
            found[row["sample_id"]].append((row["modality"], raw))
    assert list(found) == keys
    for key, items in found.items():
        name = source_key(key)
        wanted = [item for _, items in CHATS[name] for item in items]
        assert items == [i.text if isinstance(i, Text) else (i.type, medium(name, i.part)) for i in wanted]


SPOKEN = {"z/1": "ann", "b 2": "bob", "a": "ann", "Ä": "bob", "b-2": "Zoe", "q.x": None}


def speech() -> list[dict]:
    rows = []
    for i, (key, speaker) in enumerate(SPOKEN.items()):
        rows.append({"id": key, "text": f"word{i}\n  {key}", "who": speaker, "audio": f"{i}.wav", "n": i})
        Path(f"{i}.wav").write_bytes(sound(i, 0.25 * (i + 1)))
    publish(rows, {"audio": "audio"}, {"text": "string", "who": "string", "n": "int"})
    return rows


def kaldi(name: str) -> dict[str, str]:
    raw = Path("as/kaldi", name).read_bytes()
    pairs = [line.split(b" ", 1) for line in raw.removesuffix(b"\n").split(b"\n")]
    assert [first for first, _ in pairs] == sorted(first for first, _ in pairs), "not in the order of the C locale"
    return {first.decode(): second.decode() for first, second in pairs}


@pytest.mark.parametrize("speakers", [False, True])
def test_kaldi(speakers):
    rows = speech()
    report = export("kaldi", *(["--speaker", "who"] if speakers else []))
    assert report["skipped"] == ({"no_speaker": 1} if speakers else {})
    assert report["samples"] + sum(report["skipped"].values()) == len(rows)
    scp, text, utt2spk, utt2dur = map(kaldi, ("wav.scp", "text", "utt2spk", "utt2dur"))
    assert scp.keys() == text.keys() == utt2spk.keys() == utt2dur.keys()
    wanted = {f"word{row['n']} {row['id']}": row for row in rows if row["who"] or not speakers}
    assert set(text.values()) == set(wanted)
    for name, path in scp.items():
        row = wanted[text[name]]
        assert Path("as/kaldi", path).read_bytes() == Path(row["audio"]).read_bytes()
        assert float(utt2dur[name]) == 0.25 * (row["n"] + 1)
        assert utt2spk[name] == (row["who"] if speakers else name)
        assert name.startswith(utt2spk[name])
        assert not any(c.isspace() for c in name)
    spk2utt = {speaker: names.split() for speaker, names in kaldi("spk2utt").items()}
    assert {name: speaker for speaker, names in spk2utt.items() for name in names} == utt2spk
    assert all(names == sorted(names, key=str.encode) for names in spk2utt.values())
    assert sorted(p.name for p in Path("as/kaldi").iterdir()) == [
        "export.json", "media", "spk2utt", "text", "utt2dur", "utt2spk", "wav.scp",
    ]  # fmt: skip


def test_nemo():
    rows = {row["text"]: row for row in speech()}
    export("nemo", "--where", "n <> 2")
    found = lines("as/nemo/manifest.jsonl")
    assert [line["n"] for line in found] == [n for n in range(6) if n != 2]
    for line in found:
        row = rows[line["text"]]
        assert (line["n"], line.get("who"), line["source"]) == (row["n"], row["who"], "set")
        assert line["duration"] == 0.25 * (row["n"] + 1)
        assert Path("as/nemo", line["audio_filepath"]).read_bytes() == Path(row["audio"]).read_bytes()


def test_our_own_ingest_reads_what_was_exported():
    speech()
    export("nemo")
    source = {"path": "as/nemo/manifest.jsonl", "id": "id", "media": {"audio": "audio_filepath"}}
    again({"ingest.jsonl": source})
    shown = [json.loads(line) for line in omnicurate("show", "out/again", "-n", "9", "--json").splitlines()]
    before = [json.loads(line) for line in omnicurate("show", "out/set", "-n", "9", "--json").splitlines()]
    assert [(r["text"], r["n"], r["parts"][0]["digest"]) for r in shown] == [
        (r["text"], r["n"], r["parts"][0]["digest"]) for r in before
    ]


def again(source: dict) -> None:
    output = {"pack": "again", "to": "out/again"}
    Path("again.yaml").write_text(json.dumps({"flows": {"again": [source]}, "outputs": {"again": output}}))
    omnicurate("run", "again.yaml", "--engine", "local")


def test_our_own_ingest_reads_chats_and_documents():
    keys = chats()
    export("openai")
    again({"ingest.jsonl": {"path": "as/openai/messages.jsonl", "columns": {"messages": "json"}}})
    shown = [json.loads(line) for line in omnicurate("show", "out/again", "-n", "9", "--json").splitlines()]
    exported = [line["messages"] for line in lines("as/openai/messages.jsonl")]
    assert [json.loads(row["messages"]) for row in shown] == exported
    export("llava")
    samples = json.loads(Path("as/llava/data.json").read_text())
    Path("as/llava/lines.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples if s.get("video")))
    again({"ingest.jsonl": {"path": "as/llava/lines.jsonl", "media": {"film": "video"}}})
    [row] = [json.loads(line) for line in omnicurate("show", "out/again", "--json").splitlines()]
    [old] = json.loads(omnicurate("show", "out/set", "set/c", "--json"))["parts"]
    assert row["parts"][0]["digest"] == old["digest"]
    export("interleaved")
    again({"ingest.parquet": {"path": "as/interleaved/data.parquet", "skip": ["binary_content"]}})
    shown = [json.loads(line) for line in omnicurate("show", "out/again", "-n", "99", "--json").splitlines()]
    table = pq.read_table("as/interleaved/data.parquet", columns=["sample_id", "text_content"])
    assert [{name: row[name] for name in ("sample_id", "text_content")} for row in shown] == table.to_pylist()
    assert list(dict.fromkeys(table.column("sample_id").to_pylist())) == keys


def mixed() -> None:
    """Samples that cannot all be exported."""
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_bytes(name.encode())
    Path("a.wav").write_bytes(sound(1))
    Path("bad.wav").write_bytes(b"no sound")
    call = dump_messages([Message(role="tool", content=[Text(text="x")])])
    tricky = dump_messages([Message(role="user", content=[Text(text="an <image> tag")])])
    picture = dump_messages([Message(role="user", content=[Medium(type="image", part="image")])])
    absent = dump_messages([Message(role="user", content=[Medium(type="image", part="none")])])
    rows = [
        {"id": "pair", "caption": "a cat", "image": "a.jpg"},
        {"id": "spoken", "text": "hello", "audio": "a.wav"},
        {"id": "broken", "text": "hello", "audio": "bad.wav"},
        {"id": "unclear", "text": "one", "caption": "two", "image": "a.jpg"},
        {"id": "two", "caption": "two", "image": "a.jpg", "other": "b.jpg"},
        {"id": "mute", "audio": "a.wav"},
        {"id": "text", "text": "alone"},
        {"id": "call", "messages": call},
        {"id": "tricky", "messages": tricky},
        {"id": "absent", "messages": absent},
        {"id": "json", "messages": "[{}]"},
        {"id": "empty", "messages": "[]"},
        {"id": "sound", "messages": picture, "image": "a.wav"},
    ]
    columns = dict.fromkeys(("text", "caption", "messages"), "string")
    publish(rows, {"image": "image", "other": "other", "audio": "audio"}, columns)


@pytest.mark.parametrize(
    ("form", "exported", "skipped"),
    [
        (
            "llava",
            3,
            "broken_messages 1, missing_part 1, no_messages 5, placeholder_in_text 1, tool_messages 1, wrong_kind 1",
        ),
        ("openai", 4, "broken_messages 1, missing_part 1, no_messages 5, tool_messages 1, wrong_kind 1"),
        ("interleaved", 8, "broken_messages 1, missing_part 1, no_messages 1, tool_messages 1, wrong_kind 1"),
        ("kaldi", 1, "no_audio 2, no_text 9, undecodable_audio 1"),
        ("nemo", 1, "no_audio 2, no_text 9, undecodable_audio 1"),
    ],
)
def test_what_is_not_exported_is_counted(form, exported, skipped):
    mixed()
    report = export(form)
    counted = ", ".join(f"{reason} {count}" for reason, count in report["skipped"].items())
    assert (report["samples"], counted) == (exported, skipped)
    assert report["samples"] + sum(report["skipped"].values()) == 13
    assert json.loads(Path(f"as/{form}/export.json").read_text())["skipped"] == report["skipped"]
    media = [path for path in Path(f"as/{form}").rglob("*.*") if path.parent.name == "set"]
    named = "".join(
        path.read_text() for path in Path(f"as/{form}").glob("*") if path.suffix != ".parquet" and path.is_file()
    )
    assert all(str(path.relative_to(f"as/{form}")) in named for path in media), "a file that nothing names"


def test_views_and_damaged_media_are_counted():
    speech()
    index = sorted(Path("out/set/latest/index").iterdir())[0]
    table = pq.read_table(index)
    parts = table.column("parts").to_pylist()
    parts[1][0]["view"] = "t=0.0,0.1"
    table = table.set_column(table.column_names.index("parts"), "parts", [parts])
    pq.write_table(table.cast(pq.read_schema(index)), index)
    shard = sorted(Path("out/set/latest/shards").iterdir())[1]
    raw = bytearray(shard.read_bytes())
    offset = (
        pq.read_table(sorted(Path("out/set/latest/index").iterdir())[1]).column("parts").to_pylist()[0][0]["offset"]
    )
    raw[offset + 100] ^= 1
    shard.write_bytes(raw)
    assert export("nemo")["skipped"] == {"has_view": 1, "media_changed": 1}
    shard.unlink()
    assert export("kaldi")["skipped"] == {"has_view": 1, "media_missing": 3}


def test_an_export_is_replaced_only_by_force_and_only_where_there_was_one():
    mixed()
    export("nemo")
    before = Path("as/nemo/manifest.jsonl").read_bytes()
    assert "is there already" in omnicurate("export", "out/set", "nemo", "-o", "as/nemo", code=1)
    assert export("nemo", "--force")["samples"] == 1
    assert Path("as/nemo/manifest.jsonl").read_bytes() == before
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("mine")
    assert "was not written by an export" in omnicurate("export", "out/set", "nemo", "-o", "mine", "--force", code=1)
    assert Path("mine/thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nemo", "--where", "caption = 'a cat'"], "no sample of"),
        (["nemo", "--where", "nothing = 1"], '"nothing" not found'),
        (["nemo", "--where", "true) UNION ALL (FROM read_text('set.jsonl')"], "SQL cannot be used"),
        (["nemo", "--text", "heard.txt"], "has no column 'heard.txt'"),
        (["llava", "--inline"], "llava has no use for --inline"),
        (["kaldi", "--speaker", "speaker"], "has no column 'speaker'"),
        (["nemo", "-o", "s3://bucket/x"], "is no local folder"),
        (["nemo", "-o", "set.jsonl/x"], "cannot be written"),
    ],
)
def test_mistakes_leave_nothing_behind(arguments, message):
    mixed()
    before = sorted(os.listdir())
    assert message in omnicurate("export", "out/set", *arguments[:1], "-o", "as", *arguments[1:], code=1)
    assert sorted(os.listdir()) == before


def test_tars_of_others():
    with webdataset.TarWriter("a.tar") as sink:
        sink.write({"__key__": "x/s0", "jpg": b"\xff\xd8", "json": {"caption": "cat"}})
    omnicurate("export", "a.tar", "llava", "-o", "as")
    [sample] = json.loads(Path("as/data.json").read_text())
    assert Path("as", sample["image"]).read_bytes() == b"\xff\xd8"
    assert [turn["value"] for turn in sample["conversations"]] == ["<image>", "cat"]


@given(st.lists(st.text(max_size=12) | st.sampled_from(["..", "a/../b", "/etc", "a//b", "a b", "%", ".", "a/", "."])))
def test_names_of_files_stay_below_and_apart(keys):
    stems = {key: file_stem(key) for key in keys if key.encode("utf-8", "ignore").decode() == key}
    assert len(set(stems.values())) == len(stems)
    for stem in stems.values():
        assert os.path.normpath(f"media/{stem}.jpg") == f"media/{stem}.jpg"
        assert not any(name.startswith(".") or not name or len(name.encode()) > 200 for name in stem.split("/"))
        assert not any(c.isspace() or not c.isprintable() for c in stem)


def test_large_media_are_copied_in_pieces(tmp_path):
    data = os.urandom(9 << 20)
    with webdataset.TarWriter("a.tar") as sink:
        sink.write({"__key__": "k", "film.mp4": data})
    found = open_dataset("a.tar")
    [row] = rows(found)
    [part] = row.parts.values()
    media = Media(found, "samples", Store("."))
    folder = MediaFolder(tmp_path, media)
    with folder.sample():
        assert (tmp_path / folder.copy("k", part)).read_bytes() == data
        assert max(map(len, media.pieces(part, 0, part.size))) <= 4 << 20
    with pytest.raises(SampleError, match="duplicate_key"), folder.sample():
        folder.copy("k", part)
    assert (tmp_path / "media/k.film.mp4").read_bytes() == data
    with pytest.raises(SampleError, match="media_truncated"), folder.sample():
        folder.copy("new", part._replace(size=1 << 30))
    assert not (tmp_path / "media/new.film.mp4").exists()


def test_an_index_may_name_its_own_shards_only():
    speech()
    Path("secret.wav").write_bytes(sound(7))
    index = sorted(Path("out/set/latest/index").iterdir())[0]
    table = pq.read_table(index)
    parts = table.column("parts").to_pylist()
    parts[0][0] |= {"uri": os.path.abspath("secret.wav"), "offset": 0, "size": 44, "digest": None}
    parts[1][0] |= {"uri": "../../../../secret.wav", "offset": 0, "size": 44, "digest": None}
    table = table.set_column(table.column_names.index("parts"), "parts", [parts])
    pq.write_table(table.cast(pq.read_schema(index)), index)
    assert export("nemo")["skipped"] == {"media_missing": 2}
