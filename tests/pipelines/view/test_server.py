"""The viewer's server: what it answers, and what it refuses."""

from __future__ import annotations

import contextlib
import html
import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from pipelines.cli import app
from pipelines.inspect.dataset import open_dataset
from pipelines.view.server import Viewer, viewer
from schemas.errors import OmnicurateError
from schemas.store import Store
from tests.pipelines import omni


@contextlib.contextmanager
def served(path: str, **options: str) -> Iterator[Viewer]:
    with viewer(open_dataset(path), Store(".omnicurate"), **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with contextlib.chdir(tmp_path_factory.mktemp("omni")):
        omni.publish()
        with served("out/omni") as running:
            yield running


def get(server: Viewer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def page(server: Viewer, where: str = "", table: str = "samples", more: str = "") -> str:
    response, content = get(server, f"/?table={table}&where={quote(where)}{more}")
    assert response.status == 200, content
    return content.decode()


def keys(text: str) -> list[str]:
    return [part.split(">")[-1] for part in text.split("</a></h3>")[:-1]]


def test_a_page_shows_samples_and_leads_to_the_next(server):
    first = page(server)
    assert keys(first)[:2] == ["omni/s008", "omni/s009"]
    assert "1 to 12 of 19" in first
    assert keys(page(server, more="&from=12"))[-1] == "omni/s029"
    assert "There are only 19." in page(server, more="&from=24")
    assert keys(page(server, more="&from=-1&table=nothing")) == keys(first)


def test_rejects_say_why(server):
    text = page(server, table="rejects")
    assert "1 to 11 of 11" in text
    assert "<b>low_score</b>" in text
    assert " at omni.good" in text


def test_conditions_and_picked_values_work_together(server):
    assert keys(page(server, "score > 0.9 -- a comment")) == ["omni/s028", "omni/s029"]
    assert keys(page(server, "score > 0.9", more="&pick=media%3Dvideo")) == ["omni/s029"]
    assert "No samples are like that." in page(server, "n = -1")


@pytest.mark.parametrize(
    "where",
    [
        "1 = 1) UNION ALL SELECT * FROM samples --",
        "true; DROP VIEW samples",
        "n IN (SELECT n FROM read_csv('/etc/passwd'))",
        "(SELECT count(*) FROM read_text('/etc/passwd')) > 0",
        "COPY samples TO 'x.csv'",
        "ATTACH 'x.db'",
        "nothing > 3",
        "n >",
        "n = ?",
        "caption::INT > 3",
    ],
)
def test_a_condition_that_cannot_be_used_is_explained_on_the_page(server, where):
    text = page(server, where)
    assert 'role="alert"' in text
    assert html.escape(where) in text
    assert keys(text) == []
    assert "root:" not in text
    assert keys(page(server))


def test_text_from_data_is_no_markup(server):
    for text in (page(server, "n = 3", "rejects"), page(server, omni.EVIL)):
        assert "<script>document" not in text
        assert "<img src=x" not in text
    assert html.escape(omni.EVIL, quote=False) in page(server, "n = 3", "rejects")
    response, _ = get(server, "/")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def medium(server: Viewer, where: str, table: str = "samples") -> str:
    return page(server, where, table).split(' src="/media')[1].split('"')[0].join(["/media", ""])


def test_media_are_served_by_ranges(server, monkeypatch):
    monkeypatch.setattr("pipelines.view.media._PIECE", 100)  # as a film of hours would be: piece by piece
    path = medium(server, "n = 11")
    whole = omni.film(11)
    response, content = get(server, path)
    assert (response.status, content) == (200, whole)
    assert response.headers["Content-Type"] == "video/mp4"
    assert response.headers["Accept-Ranges"] == "bytes"
    size = len(whole)
    for header, start, stop in (
        ("bytes=0-", 0, size),
        ("bytes=5-9", 5, 10),
        ("bytes=-7", size - 7, size),
        (f"bytes=10-{size + 99}", 10, size),
    ):
        response, content = get(server, path, Range=header)
        assert (response.status, content) == (206, whole[start:stop])
        assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
    for header in (f"bytes={size}-", "bytes=9-5", "bytes=-0"):
        response, content = get(server, path, Range=header)
        assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert get(server, path, Range="lines=1-2")[0].status == 200
    response, content = get(server, path, method="HEAD")
    assert (response.status, response.headers["Content-Length"], content) == (200, str(size), b"")


def test_many_are_answered_at_once(server):
    paths = ["/", "/?table=rejects", "/?where=n+%3E+9", medium(server, "n = 11")] * 10
    with ThreadPoolExecutor(16) as pool:
        assert {response.status for response, _ in pool.map(lambda path: get(server, path), paths)} == {200}


def test_media_of_rejects_come_from_where_they_were_found(server):
    assert get(server, medium(server, "n = 1", "rejects"))[1] == omni.sound(1)


@pytest.mark.parametrize(
    "path",
    [
        "/media/samples/0.0/../../manifest.json",
        "/media/samples/0.0/..%2f..%2fmanifest.json",
        "/media/samples/0.0/%2fetc%2fpasswd",
        "/media/samples/0.99/image",
        "/media/samples/99.0/image",
        "/media/samples/0.0/nothing",
        "/media/nothing/0.0/image",
        "/media/samples/-1.0/image",
        "//etc/passwd",
        "/../../etc/passwd",
        "/page.py",
        "/manifest.json",
    ],
)
def test_nothing_but_parts_is_served(server, path):
    assert get(server, path)[0].status == 404


def test_an_index_cannot_lead_out_of_its_data_set(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    omni.publish(12)
    Path("secret.wav").write_bytes(b"secret")
    index = sorted(Path("out/omni/latest/index").iterdir())[0]
    table = pq.read_table(index)
    for uri in (str(Path("secret.wav").absolute()), "../secret.wav", "shards/../../../../secret.wav", "store:../s.wav"):
        rows = [[{**part, "uri": uri, "offset": 0, "size": 6}] for [part] in table.column("parts").to_pylist()]
        place = table.schema.get_field_index("parts")
        pq.write_table(table.set_column(place, "parts", pa.array(rows, table.schema.field("parts").type)), index)
        with served("out/omni") as server:
            response, content = get(server, medium(server, ""))
        assert (response.status, b"secret" in content) == (404, False)


def test_other_names_are_refused_unless_others_were_invited(server, tmp_path, monkeypatch):
    for name in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1:1", ""):
        assert get(server, "/", Host=name)[0].status == 403
    assert get(server, "/", Host=f"localhost:{server.server_port}")[0].status == 200
    monkeypatch.chdir(tmp_path)
    omni.publish(6)
    with served("in.tar", host="0.0.0.0") as inviting:
        assert get(inviting, "/", Host="my-machine.example")[0].status == 200


def test_foreign_tars_can_be_viewed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    omni.publish(6)
    with served("in.tar") as server:
        text = page(server)
        assert "1 to 6 of 6" in text
        assert "<script>document" not in text
        assert get(server, medium(server, ""))[1] == omni.picture(0)
        assert "There are no rejects." in page(server, table="rejects")


def test_a_damaged_index_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    omni.publish(12)
    sorted(Path("out/omni/latest/rejected").iterdir())[0].write_bytes(b"PAR1")
    with served("out/omni") as server:
        response, content = get(server, "/")
        assert response.status == 500
        assert b"is damaged" in content


def test_a_port_that_is_taken_is_an_error(server):
    with pytest.raises(OmnicurateError, match="cannot listen"), served("out/omni", port=server.server_port):
        pass


def test_the_command_says_where_it_is(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    omni.publish(6)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Viewer, "serve_forever", stop)
    result = CliRunner().invoke(app, ["view", "in.tar", "--no-browser"])
    assert result.exit_code == 0, result.output
    assert "http://127.0.0.1:" in result.output
