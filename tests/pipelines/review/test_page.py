"""The local page: decisions are on disk at once, and nobody else can reach it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.review.page import Desk, decisions_path, review_page
from schemas.errors import DataError, OmnicurateError


@pytest.fixture
def queue(omnicurate, said) -> Path:
    omnicurate("review", "export", "out/said", "-o", "q.jsonl")
    return Path("q.jsonl").absolute()


@pytest.fixture
def port(queue: Path) -> Iterator[int]:
    with review_page(str(queue), "me") as page:
        thread = threading.Thread(target=page.serve_forever, args=(0.02,))
        thread.start()
        yield page.server_port
        page.shutdown()
        thread.join()


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    if body is not None:
        headers = {"Content-Type": "application/json", **headers}
    connection.request(method, path, sent, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def saved(queue: Path) -> list[tuple[str, str, str | None]]:
    rows = [json.loads(line) for line in decisions_path(str(queue)).read_text().split("\n")[:-1]]
    return [(row["key"], row["decision"], row["text"]) for row in rows]


def test_decisions_are_saved_at_once_and_the_work_goes_on(queue, port):
    assert json.loads(ask(port, "GET", "/next")[2])["number"] == 0
    status, _, answer = ask(port, "POST", "/task/2", {"decision": "reject", "edited": None, "note": "noise"})
    assert (status, json.loads(answer)["decided"]) == (200, 1)
    assert saved(queue) == [("said/d%2Ee", "reject", None)]
    ask(port, "POST", "/task/0", {"decision": "accept", "edited": None, "note": ""})
    ask(port, "POST", "/task/1", {"decision": "edit", "edited": "zwei", "note": ""})
    ask(port, "POST", "/task/1", {"decision": "edit", "edited": "deux", "note": ""})
    assert saved(queue) == [("said/a", "accept", "one"), ("said/b/c", "edit", "deux"), ("said/d%2Ee", "reject", None)]
    again = Desk(str(queue), "you")
    assert again.next() == 3
    assert again.shown(1)["decision"]["text"] == "deux"
    status, _, answer = ask(port, "POST", "/task/3", {"decision": "edit", "edited": None})
    assert (status, answer) == (400, b"the decision is edit, but there is no edited text")


def test_a_kill_loses_nothing(queue):
    command = [sys.executable, "-m", "omnicurate", "review", "page", str(queue), "--port", "0", "--reviewer", "ann"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split("/")[2].rpartition(":")[2])
        for number in (0, 1):
            ask(port, "POST", f"/task/{number}", {"decision": "accept"})
        process.send_signal(signal.SIGKILL)
    assert [decision for _, decision, _ in saved(queue)] == ["accept", "accept"]
    assert Desk(str(queue), "").next() == 2
    assert Desk(str(queue), "").shown(0)["decision"]["reviewer"] == "ann"


def test_only_this_page_may_ask(queue, port):
    accept = {"decision": "accept"}
    assert ask(port, "GET", "/next", Host="evil.example")[0] == 403
    assert ask(port, "GET", "/next", Host=f"localhost:{port}")[0] == 200
    assert ask(port, "POST", "/task/0", accept, Host=f"evil.example:{port}")[0] == 403
    assert ask(port, "POST", "/task/0", accept, Origin="http://evil.example")[0] == 403
    assert ask(port, "POST", "/task/0", accept, Origin="null")[0] == 403
    assert ask(port, "POST", "/task/0", accept, Content_Type="text/plain")[0] == 415
    assert ask(port, "POST", "/task/9", accept)[0] == 404
    assert ask(port, "POST", "/task/0", b"[]")[0] == 400
    assert ask(port, "POST", "/task/0", b"{")[0] == 400
    assert ask(port, "POST", "/task/0", {"decision": None})[0] == 400
    assert ask(port, "POST", "/task/0", b"{}", Content_Length=str(1 << 30))[0] == 413
    assert not decisions_path(str(queue)).exists()
    assert ask(port, "POST", "/task/0", accept, Origin=f"http://127.0.0.1:{port}")[0] == 200


def test_no_script_but_ours_runs(port):
    for path in ("/", "/page.js", "/page.css", "/next", "/nothing"):
        _, headers, content = ask(port, "GET", path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert path == "/next" or b"<script>" not in content
    assert b"innerHTML" not in ask(port, "GET", "/page.js")[2]
    assert ask(port, "GET", "/next")[1]["Content-Type"].startswith("application/json")


def test_media_by_ranges_and_no_other_file(queue, port):
    data = b"sound 1" * 100
    status, headers, content = ask(port, "GET", "/media/1/audio")
    assert (status, content, headers["Content-Type"]) == (200, data, "audio/wav")
    for asked, wanted in {
        "bytes=3-9": data[3:10],
        "bytes=690-": data[690:],
        "bytes=690-9999": data[690:],
        "bytes=-5": data[-5:],
    }.items():
        status, headers, content = ask(port, "GET", "/media/1/audio", Range=asked)
        assert (status, content) == (206, wanted)
        assert headers["Content-Range"].endswith("/700")
    for asked in ("bytes=700-", "bytes=-", "bytes=-0", "bytes=9-3"):
        assert ask(port, "GET", "/media/1/audio", Range=asked)[0] == 416
    assert ask(port, "GET", "/media/1/audio", Range="lines=1-2")[::2] == (200, data)
    for path in ("/media/1/image", "/media/9/audio", "/media/1/..%2f..%2fq.jsonl", "/../q.jsonl", "/q.jsonl"):
        assert ask(port, "GET", path)[0] == 404


def test_a_queue_that_points_elsewhere_shows_nothing(queue):
    Path("secret.wav").write_text("secret")
    Path("below").mkdir()
    tasks = [
        {"key": str(i), "text": "", "media": {"audio": path}}
        for i, path in enumerate(["../secret.wav", str(Path("secret.wav").absolute()), 5])
    ]
    Path("below/q.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    desk = Desk("below/q.jsonl", "")
    assert [desk.medium(number, "audio") for number in range(3)] == [None] * 3


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "holds no tasks"), ("[\n{}]", "q:1: not a task"), ('{"key": "a"}\n{"key": "a"}', "q:2: not a task")],
)
def test_what_is_no_queue(tmp_path, content, message):
    (tmp_path / "q").write_text(content)
    with pytest.raises(DataError, match=message):
        Desk(str(tmp_path / "q"), "")


def test_damaged_decisions_and_taken_ports_are_errors(queue, port):
    with pytest.raises(OmnicurateError, match="is open in another page"), review_page(str(queue)):
        pass
    Path("other.jsonl").write_text('{"key": "a"}')
    with pytest.raises(OmnicurateError, match="cannot listen"), review_page("other.jsonl", port=port):
        pass
    with pytest.raises(DataError, match="cannot read none"), review_page("none"):
        pass
    decisions_path(str(queue)).write_text('{"key": "a"}\n')
    with pytest.raises(DataError, match=r"decisions\.jsonl:1"):
        Desk(str(queue), "")
