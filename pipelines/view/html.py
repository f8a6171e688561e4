"""HTML that is safe by construction: whatever is not an element is escaped."""

from __future__ import annotations

import html
from typing import TypeAlias


class Html(str):
    """Text that is HTML already."""


Child: TypeAlias = "Html | str | None"

_VOID = {"img", "input", "link", "meta"}


def element(tag: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """An element; children that are no elements are escaped.

    Attributes are named as in HTML: `class_` for class, `aria_label` for aria-label. True stands without a value; False
    and None are left out.
    """
    words = [tag]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{html.escape(str(value))}"')
    start = f"<{' '.join(words)}>"
    return Html(start) if tag in _VOID else Html(f"{start}{joined(*children)}</{tag}>")


def joined(*children: Child) -> Html:
    """Elements and texts one after the other."""
    return Html("".join(c if isinstance(c, Html) else html.escape(c, quote=False) for c in children if c is not None))


def document(title: str, head: Html, body: Html) -> bytes:
    """A whole page."""
    meta = joined(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        head,
    )
    page = joined(Html("<!doctype html>\n"), element("html", element("head", meta), body, lang="en"), Html("\n"))
    # A lone surrogate, which JSON can bring, has no bytes.
    return page.encode(errors="replace")
