"""The report: everything in one file, the same for the same data set."""

from __future__ import annotations

import contextlib
import html
import re
import shutil
from pathlib import Path

import pytest
import webdataset
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.inspect.dataset import open_dataset
from pipelines.report import report as module
from pipelines.report.cuts import Cut, cuts
from pipelines.report.histogram import histograms
from tests.browser import browser
from tests.pipelines import omni


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("omni")
    with contextlib.chdir(place):
        omni.publish()
    return place


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def write(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["report", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_the_same_data_set_gives_the_same_bytes():
    assert "wrote one.html" in write("out/omni", "-o", "one.html")
    shutil.copytree("out/omni/latest/", "copy", symlinks=False)
    write("copy", "-o", "two.html")
    assert Path("one.html").read_bytes() == Path("two.html").read_bytes()


def test_it_needs_nothing_else():
    write("out/omni", "-o", "report.html")
    text = Path("report.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert addresses
    assert all(re.match(r"data:(image/png|audio/wav|video/mp4);base64,", address) for address in addresses)
    assert "url(" not in text
    assert "<script" not in text
    assert html.escape(omni.EVIL, quote=False) in text


def test_cuts_are_read_from_the_recipe():
    manifest = open_dataset("out/omni").manifest
    assert manifest is not None
    assert cuts(manifest) == [Cut("omni", "good", "score", 0.25)]
    [_, filtered, _] = manifest.recipe["flows"]["omni"]
    filtered["filter.where"]["sql"] = "n BETWEEN 2 AND 5e1 OR -3 < score OR caption = '4' OR n > score"
    found = [(cut.path, cut.at) for cut in cuts(manifest)]
    assert found == [("n", 2), ("n", 50), ("score", -3)]


def test_histograms_tell_kept_from_cut_and_from_rejected_elsewhere():
    data = open_dataset("out/omni")
    assert data.manifest is not None
    with data.connect() as connection:
        score, n = histograms(connection, cuts(data.manifest))
    assert {kind: score.total(kind) for kind in ("kept", "cut", "elsewhere")} == {"kept": 19, "cut": 8, "elsewhere": 3}
    assert {kind: n.total(kind) for kind in ("kept", "cut", "elsewhere")} == {"kept": 19, "cut": 0, "elsewhere": 11}
    assert (n.low, n.step, len(n.bins)) == (-0.5, 1, 30)
    assert score.low <= 0.25 <= score.high


def test_histograms_of_odd_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with webdataset.TarWriter("odd.tar") as sink:
        for i in range(300):
            odd = {"duration": 0.0 if i else 2.5, "width": i if i < 299 else 10**12, "height": 7}
            odd |= {"channels": 1 + i % 2} if i < 9 else {}
            sink.write({"__key__": f"s{i}", "json": odd})
    with open_dataset("odd.tar").connect() as connection:
        found = {histogram.path: histogram for histogram in histograms(connection, [])}
    assert [sum(bin.values()) for bin in found["duration"].bins if sum(bin.values())] == [299, 1]
    assert found["width"].high < 1000  # far off values are counted in the last bin
    assert found["width"].total("kept") == 300
    assert (found["height"].step, found["height"].least) == (0, 7)
    assert (len(found["channels"].bins), found["channels"].total("kept")) == (2, 9)


def test_what_is_large_is_named_and_not_embedded(monkeypatch):
    monkeypatch.setattr(module, "_LARGEST", 1000)
    write("out/omni", "-o", "small.html")
    text = Path("small.html").read_text()
    assert "data:image/png" in text
    assert "data:audio/wav" not in text
    assert "(not shown here)" in text
    monkeypatch.setattr(module, "_TOTAL", 400)
    write("out/omni", "-o", "smaller.html")
    assert Path("smaller.html").read_text().count("data:image/png") == 2


def test_foreign_tars_have_a_report_too():
    write("in.tar", "-o", "foreign.html")
    text = Path("foreign.html").read_text()
    assert "<h1>in.tar</h1>" in text
    assert "From read to kept" not in text
    assert "data:video/mp4" in text


def test_a_report_that_cannot_be_written_is_an_error():
    assert "cannot write nowhere/r.html" in write("out/omni", "-o", "nowhere/r.html", code=1)


def test_chromium_shows_and_plays_it():
    write("out/omni", "-o", "report.html")
    with browser() as tab:
        tab.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        tab.open(Path("report.html").absolute().as_uri())
        headings = tab.eval("Array.from(document.querySelectorAll('h2'), e => e.textContent)")
        assert headings == [
            "From read to kept",
            "Columns",
            "Balance",
            "Shards",
            "Samples",
            "Either side of score = 0.25",
            "Rejected: low_score",
            "Rejected: unlucky",
        ]
        assert tab.eval("document.querySelectorAll('svg text.mark').length") == 1
        assert tab.eval("document.querySelectorAll('.cards')[0].children.length") == 12
        notes = tab.eval("Array.from(document.querySelectorAll('.note'), e => e.textContent)")
        assert notes == [
            "score is 0.2667: kept",
            "score is 0.3: kept",
            "score is 0.2333: rejected",
            "score is 0.2: rejected",
        ]
        tab.wait("Array.from(document.querySelectorAll('audio, video')).every(e => e.readyState >= 1)")
        tab.eval("document.querySelectorAll('img').forEach(e => e.loading = 'eager')")
        tab.wait("Array.from(document.querySelectorAll('img')).every(e => e.naturalWidth === 64)")
        assert tab.eval("document.title") == "omni · report"
        assert tab.errors == []
