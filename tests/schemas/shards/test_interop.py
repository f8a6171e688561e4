"""Shards of ours in other people's readers, and their shards in ours."""

import io
import json
import random
import tarfile

import pytest
import webdataset

from schemas.shards import Entry, Member, ShardWriter, read_samples, walk

NOISE = random.Random(4).randbytes(9000)
KEYS = ["asterisk/ab-cd", "asterisk/sub/ef", "photos/" + "long-" * 25, "录音/第一"]
KEYS += [f"plain/{i:04d}" for i in range(60)]
SAMPLES = {
    key: {"bin": NOISE[: i * 97], "speech.bin": NOISE[i:5000], "json": json.dumps({"text": f"{i} 人", "n": i}).encode()}
    for i, key in enumerate(KEYS)
}


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    path = tmp_path_factory.mktemp("interop") / "set-000000.tar"
    with ShardWriter(path) as writer:
        writer.add(
            Entry(f"{key}.{extension}", data) for key, parts in SAMPLES.items() for extension, data in parts.items()
        )
    return path


def test_tarfile_reads_ours_also_as_a_stream(shard):
    expected = {f"{key}.{extension}": data for key, parts in SAMPLES.items() for extension, data in parts.items()}
    for mode in ("r:", "r|"):
        with tarfile.open(shard, mode) as tar:
            assert {member.name: tar.extractfile(member).read() for member in tar} == expected


def test_webdataset_reads_ours(shard):
    rows = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert {row["__key__"]: {k: v for k, v in row.items() if k[0] != "_"} for row in rows} == SAMPLES
    assert [row["__key__"] for row in rows] == KEYS


def test_ray_data_reads_ours(shard):
    ray = pytest.importorskip("ray")
    ray.init(address="local", include_dashboard=False, num_cpus=1, log_to_driver=False)
    try:
        rows = ray.data.read_webdataset(str(shard)).take_all()
    finally:
        ray.shutdown()
    assert [row["__key__"] for row in rows] == KEYS
    for row, parts in zip(rows, SAMPLES.values(), strict=True):
        assert row["json"] == json.loads(parts["json"])  # it always decodes JSON
        assert (row["bin"], row["speech.bin"]) == (parts["bin"], parts["speech.bin"])


def test_hugging_face_datasets_streams_ours(shard, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset("webdataset", data_files=[str(shard)], split="train", streaming=True)
    found = {row["__key__"]: row for row in rows}
    assert list(found) == KEYS
    for key, parts in SAMPLES.items():
        assert found[key]["json"] == json.loads(parts["json"])
        assert (found[key]["bin"], found[key]["speech.bin"]) == (parts["bin"], parts["speech.bin"])


def test_we_read_what_webdataset_writes(tmp_path):
    path = tmp_path / "theirs.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for key, parts in SAMPLES.items():
            writer.write({"__key__": key, **parts})
    assert b"mtime=" in path.read_bytes()[:2048]  # float times, so PAX headers
    assert dict(read_samples(path)) == SAMPLES
    raw = path.read_bytes()
    for member in walk(path):
        assert isinstance(member, Member)
        key, _, extension = member.name.partition(".")
        assert raw[member.offset : member.offset + member.size] == SAMPLES[key][extension]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_we_read_what_tarfile_writes(tmp_path, format):
    path = tmp_path / "theirs.tar"
    with tarfile.open(path, "w", format=format) as tar:
        for key, parts in SAMPLES.items():
            for extension, data in parts.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    assert dict(read_samples(path)) == SAMPLES


def test_a_file_system_of_fsspec_is_walked(shard):
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open(f"file://{shard}", "rb") as file:
        assert list(walk(file)) == list(walk(shard))
