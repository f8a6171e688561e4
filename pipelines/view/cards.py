"""A sample, or a reject, as a card: its media, what is said, what was measured, where it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from pydantic import ValidationError

from pipelines.render import number, size
from pipelines.view.html import Child, Html, element
from pipelines.view.media import kind_of, parts_of
from schemas.message import Medium, Message, parse_messages
from schemas.sample import Part

Link: TypeAlias = Callable[[Part], str | None]
"""The address of a part's bytes; None where they cannot be had here."""

_REJECT = ("flow", "step", "reason", "detail")
_APART = ("key", "parts", "messages", "lineage", "_file", "_row")
_TEXTS = ("text", "caption")


def card(row: Mapping[str, Any], link: Link, title: Child = None, note: str | None = None) -> Html:
    """A card of one row of an index. title: what stands for its key; note: why it is shown."""
    parts = parts_of(row)
    conversation, placed = _conversation(row.get("messages"), parts, link)
    media = [_medium(part, link) for name, part in parts.items() if name not in placed]
    rejected = row.keys() >= set(_REJECT)  # a sample may have a column of its own that is called reason
    return element(
        "article",
        element("h3", title or str(row["key"])),
        element("p", note, class_="note") if note else None,
        _verdict(row) if rejected else None,
        element("div", *media, class_="media") if media else None,
        conversation,
        *(_text(name, row[name]) for name in _TEXTS if row.get(name)),
        _values({name: row[name] for name in row if not (rejected and name in _REJECT)}),
        _lineage(row.get("lineage")),
        class_="card rejected" if rejected else "card",
    )


def _verdict(row: Mapping[str, Any]) -> Html:
    where = element("span", f" at {row['flow']}.{row['step']}", class_="quiet")
    return element("p", element("b", str(row["reason"])), where, _after(row.get("detail")), class_="verdict")


def _after(detail: Any) -> Html | None:
    return element("span", f": {detail}") if detail else None


def _medium(part: Part, link: Link) -> Html:
    address = link(part)
    label = f"{part.name} · {part.format} · {size(part.size)}" + (f" · {part.view}" if part.view else "")
    kind = kind_of(part)
    shown: Html | None = None
    if address is not None and kind is not None:
        span = part.span
        source = address if span is None else f"{address}#t={span[0]},{span[1]}"
        if kind == "image":
            image = element("img", src=source, alt=part.name, loading="lazy")
            # An embedded image would stand there twice, and browsers follow no such link.
            shown = image if source.startswith("data:") else element("a", image, href=source)
        else:
            shown = element(kind, src=source, controls=True, preload="metadata", aria_label=part.name)
    missing = None if shown is not None else element("span", " (not shown here)")
    return element("figure", shown, element("figcaption", label, missing), class_=kind or "other")


def _conversation(text: Any, parts: Mapping[str, Part], link: Link) -> tuple[Html | None, set[str]]:
    """The turns of a conversation with their media in place, and the names of these."""
    if not text:
        return None, set()
    try:
        messages = parse_messages(text)
    except ValidationError:
        return _text("messages", text), set()
    placed = {c.part for m in messages for c in m.content if isinstance(c, Medium) and c.part in parts}
    return element("div", *(_turn(message, parts, link) for message in messages), class_="conversation"), placed


def _turn(message: Message, parts: Mapping[str, Part], link: Link) -> Html:
    content: list[Html] = []
    for item in message.content:
        if not isinstance(item, Medium):
            content.append(element("p", item.text))
        elif item.part in parts:
            content.append(_medium(parts[item.part], link))
        else:
            content.append(element("p", f"{item.type} {item.part!r}, which this sample lacks", class_="quiet"))
    return element("div", element("h4", message.role), *content, class_=f"turn {message.role}")


def _text(name: str, value: Any) -> Html:
    return element("div", element("h4", name), element("p", str(value)), class_="text", tabindex=0)


def _values(row: Mapping[str, Any]) -> Html | None:
    """Everything else that is known, structs as groups."""
    plain = {n: v for n, v in row.items() if n not in _APART + _TEXTS and v is not None}
    groups = {name: dict(_leaves(value)) for name, value in plain.items() if isinstance(value, dict)}
    simple = {name: value for name, value in plain.items() if not isinstance(value, dict)}
    made = [_group("", simple)] if simple else []
    made += [_group(name, values) for name, values in groups.items() if values]
    return element("div", *made, class_="values") if made else None


def _leaves(struct: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in struct.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", value


def _group(name: str, values: Mapping[str, Any]) -> Html:
    rows = [element("div", element("dt", key), " ", element("dd", shown(value))) for key, value in values.items()]
    return element("section", element("h4", name), element("dl", *rows))


def shown(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=shown)
    return value.hex() if isinstance(value, bytes) else str(value)


def _lineage(ancestors: Any) -> Html | None:
    if not ancestors:
        return None
    steps = [element("li", element("b", str(a["key"])), _origin(a)) for a in ancestors]
    return element("div", element("h4", "lineage"), element("ol", *steps), class_="lineage")


def _origin(ancestor: Mapping[str, Any]) -> str:
    before = f" before {ancestor['step']}" if ancestor["step"] else ""
    return before + (f" in {ancestor['dataset']}" if ancestor["dataset"] else "")
