from __future__ import annotations

import multiprocessing
import os
import uuid
from pathlib import Path

import pytest

from schemas.errors import SampleError
from schemas.sample import Part
from schemas.store import MediaReader, Store, file_tag


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    return Store(str(tmp_path / "store") if request.param == "disk" else f"memory://{uuid.uuid4().hex}")


def test_the_first_to_publish_wins(store):
    assert store.put_new("a/b.bin", b"first")
    assert not store.put_new("a/b.bin", b"second")
    assert store.read("a/b.bin") == b"first"
    assert store.read("a/b.bin", 1, 3) == b"irs"
    with store.open("a/b.bin") as file:
        assert file.read() == b"first"


def test_finished_files_are_published_and_consumed(store):
    path = store.temporary()
    path.write_bytes(b"data")
    assert store.put_new("x", path)
    assert not path.exists()
    path.write_bytes(b"other")
    assert not store.put_new("x", path)
    assert not path.exists(), "the loser of a race must not leave its file"
    assert store.read("x") == b"data"


def test_listing_and_deleting(store):
    for name in ("b/2", "b/1", "a", "b2"):
        store.put_new(name, b"..")
    assert {found.path for found in store.list() if not found.path.startswith(".")} == {"a", "b/1", "b/2", "b2"}
    assert [(found.path, found.size) for found in store.list("b")] == [("b/1", 2), ("b/2", 2)]
    store.delete("b/1")
    store.delete("b/1")
    assert not store.exists("b/1")
    with pytest.raises(FileNotFoundError):
        store.read("b/1")


def _race(root: str, worker: int, results) -> None:
    store = Store(root)
    results.put([store.put_new(f"n/{i}", bytes([worker])) for i in range(200)])


def test_many_writers_one_winner_each(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_race, args=(str(tmp_path), w, results)) for w in range(4)]
    for worker in workers:
        worker.start()
    won = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    assert [sum(row) for row in zip(*won, strict=True)] == [1] * 200
    assert not list(Path(tmp_path, ".tmp").iterdir())


def test_media_are_checked_when_they_are_read(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    part = Part("blob", "bin", str(path), 2, 3, tag=file_tag(os.stat(path)))
    read = MediaReader(Store(str(tmp_path / "store")))
    assert read(part) == b"234"
    read.close()
    path.write_bytes(b"0123456789abc")
    for wrong, reason in (
        (part, "media_changed"),
        (part._replace(tag=None, size=20), "media_truncated"),
        (part._replace(uri=str(tmp_path / "gone")), "media_missing"),
    ):
        with pytest.raises(SampleError) as caught:
            read(wrong)
        assert caught.value.reason == reason
    read.close()
