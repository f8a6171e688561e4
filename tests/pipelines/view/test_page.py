"""The viewer as people see it, in Chromium."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from pipelines.inspect.dataset import open_dataset
from pipelines.view.server import viewer
from schemas.store import Store
from tests.browser import Browser, browser
from tests.pipelines import omni

CARDS = "document.querySelectorAll('article.card').length"
KEYS = "Array.from(document.querySelectorAll('article h3'), e => e.textContent)"
PLACE = "document.querySelector('.place').textContent"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with contextlib.chdir(tmp_path_factory.mktemp("omni")):
        omni.publish()
        with viewer(open_dataset("out/omni"), Store(".omnicurate")) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield server.url
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Browser]:
    """The browser; its console must stay empty."""
    chromium.errors.clear()
    yield chromium
    chromium.eval("0")  # what was said until now has been heard
    assert chromium.errors == []


def arrive(tab: Browser, place: str) -> None:
    """Wait for a page that says so, and for its script."""
    tab.wait(f"document.readyState === 'complete' && {PLACE} === '{place}'")


def test_cards_appear_with_their_media(tab, url):
    tab.open(url)
    assert tab.eval(CARDS) == 12
    tab.wait("document.querySelector('img').naturalWidth === 64")
    tab.wait("document.querySelector('audio').readyState >= 1")
    assert tab.eval("document.querySelector('audio').duration") == 0.5
    tab.wait("document.querySelector('video').readyState >= 1")
    assert tab.eval("document.querySelector('video').videoWidth") == 64


def test_a_conversation_has_its_picture_in_place(tab, url):
    tab.open(f"{url}?where={quote('n = 9')}")
    assert tab.eval("document.querySelector('.turn.user img') !== null")
    assert tab.eval("document.querySelector('.turn.user p').textContent") == "What is this?"
    assert tab.eval("document.querySelector('.turn.assistant p').textContent") == "It is 9."
    assert tab.eval("document.querySelectorAll('img').length") == 1


def test_arrows_turn_pages(tab, url):
    tab.open(url)
    tab.press("ArrowRight", 39)
    arrive(tab, "13 to 19 of 19")
    tab.press("ArrowRight", 39)
    tab.press("ArrowLeft", 37)
    arrive(tab, "1 to 12 of 19")


def test_a_condition_and_a_click_filter(tab, url):
    tab.open(url)
    tab.press("/", 191)
    tab.wait("document.activeElement.name === 'where'")
    tab.call("Input.insertText", text="score > 0.8 and n < 29")
    tab.eval("document.querySelector('form').requestSubmit()")
    arrive(tab, "1 to 4 of 4")
    tab.eval("document.querySelector('a[aria-label^=\"audio\"]').click()")
    arrive(tab, "1 to 2 of 2")
    assert tab.eval(KEYS) == ["omni/s025", "omni/s028"]
    assert tab.eval("document.querySelector('aside .active .label').textContent") == "audio"
    assert tab.eval("document.querySelector('input[type=search]').value") == "score > 0.8 and n < 29"


def test_text_from_data_stays_text(tab, url):
    tab.open(f"{url}?table=rejects&where={quote('n = 3')}")
    assert tab.eval("document.querySelector('.text p').textContent") == omni.EVIL
    assert tab.eval("document.title") == "omni · rejects"
    assert tab.eval("document.querySelectorAll('article script, article img[src=x]').length") == 0


def test_a_wrong_condition_is_explained_and_can_be_mended(tab, url):
    tab.open(f"{url}?where={quote('nothing > 3')}")
    assert "nothing" in tab.eval("document.querySelector('[role=alert]').textContent")
    assert tab.eval("document.querySelector('input[type=search]').value") == "nothing > 3"
    tab.eval("document.querySelector('nav a').click()")
    tab.wait(f"{CARDS} === 12")
