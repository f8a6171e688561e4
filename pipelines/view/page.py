"""The page of the viewer: what to look at, what to pick by, and the cards. A page is its address: it can be shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from pipelines.inspect.dataset import DataSet, query
from pipelines.view.cards import card
from pipelines.view.columns import Facet, literal
from pipelines.view.html import Html, document, element, joined
from pipelines.view.media import kind_of
from schemas.errors import DataError, OmnicurateError
from schemas.sample import Part
from stages.filter.expression import references

TABLES = ("samples", "rejects")
COUNT = 12  # cards on a page

Facets = Mapping[str, list[Facet]]


@dataclass(frozen=True)
class Request:
    """What a page shows: a table, a condition, picked values (`column=value`), and the first row."""

    table: str = "samples"
    where: str = ""
    picks: tuple[str, ...] = ()
    start: int = 0

    @classmethod
    def parse(cls, text: str) -> Request:
        """From the query of an address; what makes no sense there is as if it were left out."""
        found = parse_qs(text)
        [table] = found.get("table", ["samples"])[:1]
        [start] = found.get("from", ["0"])[:1]
        return cls(
            table if table in TABLES else "samples",
            found.get("where", [""])[0].strip(),
            tuple(found.get("pick", ())),
            # More digits than any row number has would overflow DuckDB's integers.
            int(start) if start.isdecimal() and len(start) < 16 else 0,
        )

    @property
    def address(self) -> str:
        """The address of the page."""
        fields: list[tuple[str, str]] = [("table", self.table)] if self.table != "samples" else []
        fields += [("where", self.where)] if self.where else []
        fields += [("pick", pick) for pick in self.picks]
        fields += [("from", str(self.start))] if self.start else []
        return f"/?{urlencode(fields)}" if fields else "/"


def page(data: DataSet, connection: Any, facets: Facets, request: Request) -> bytes:
    """The page; a condition that cannot be used is explained where the cards would be."""
    try:
        with data.explained():
            total, rows = _find(connection, facets[request.table], request)
        main = _cards(request, total, rows)
    except OmnicurateError as error:
        main = _error(error)
    counts = {table: query(connection, f"SELECT count(*) AS n FROM {table}").column("n")[0].as_py() for table in TABLES}
    head = joined(
        element("link", rel="stylesheet", href="/cards.css"),
        element("link", rel="stylesheet", href="/page.css"),
        element("link", rel="icon", href="data:,"),
        element("script", src="/page.js", defer=True),
    )
    body = element(
        "body",
        _header(data, request, counts),
        element("div", _side(facets[request.table], request, counts[request.table]), main, class_="columns"),
    )
    return document(f"{data.name} · {request.table}", head, body)


def condition(facets: list[Facet], request: Request) -> str:
    """The WHERE clause of a request. Raises DataError for what is not one expression over the columns."""
    known = {f"{facet.name}={v.value}": v.condition for facet in facets for v in facet.values}
    conditions = [known[pick] for pick in request.picks if pick in known]
    if request.where:
        try:
            references(request.where)
        except ValueError as error:
            raise DataError(str(error), "an SQL condition is wanted, such as duration > 3 AND source = 'x'") from None
        conditions.append(request.where)
    # A comment at the end of a condition ends with its line.
    return "WHERE " + " AND ".join(f"({c}\n)" for c in conditions) if conditions else ""


def _find(connection: Any, facets: list[Facet], request: Request) -> tuple[int, list[dict[str, Any]]]:
    where = condition(facets, request)
    found = query(connection, f"SELECT count(*) AS n FROM {request.table} {where}")
    rows = query(connection, f"FROM _{request.table} {where} LIMIT {COUNT} OFFSET {request.start}")
    return found.column("n")[0].as_py(), rows.to_pylist()


def _header(data: DataSet, request: Request, counts: Mapping[str, int]) -> Html:
    tabs = [
        element(
            "a",
            f"{table} ",
            element("span", f"{counts[table]:,}", class_="count"),
            href=Request(table).address,
            aria_current="page" if table == request.table else None,
        )
        for table in TABLES
    ]
    version = element("span", data.manifest.version, class_="version") if data.manifest else None
    kept = [("table", request.table), *(("pick", pick) for pick in request.picks)]
    form = element(
        "form",
        *(element("input", type="hidden", name=name, value=value) for name, value in kept),
        element(
            "input",
            type="search",
            name="where",
            value=request.where,
            placeholder="SQL condition, such as duration > 3 and source = 'x'",
            aria_label="SQL condition",
            spellcheck="false",
            autocomplete="off",
        ),
        element("button", "Filter"),
        action="/",
    )
    return element("header", element("h1", data.name, version), element("nav", *tabs, aria_label="table"), form)


def _side(facets: list[Facet], request: Request, total: int) -> Html:
    sections = []
    for facet in facets:
        items = [element("li", _pick(request, f"{facet.name}={v.value}", v.value, v.rows, total)) for v in facet.values]
        sections.append(element("section", element("h2", facet.name), element("ul", *items)))
    keys = element("p", element("kbd", "←"), " ", element("kbd", "→"), " pages  ", element("kbd", "/"), " condition")
    return element("aside", *sections, keys, aria_label="values to pick")


def _pick(request: Request, pick: str, label: str, count: int, total: int) -> Html:
    active = pick in request.picks
    others = tuple(p for p in request.picks if p != pick)
    address = replace(request, picks=others if active else (*others, pick), start=0).address
    return element(
        "a",
        element("span", label, class_="label"),
        element("span", f"{count:,}", class_="count"),
        element("meter", value=count, max=total, aria_hidden="true"),
        href=address,
        class_="active" if active else None,
        aria_label=f"{label}, {count:,}" + (", picked" if active else ""),
    )


def _cards(request: Request, total: int, rows: list[dict[str, Any]]) -> Html:
    if not rows:
        return _empty(request, total)
    pager = _pager(request, total, len(rows))
    cards = [card(row, _link(request.table, row), _title(request, row)) for row in rows]
    return element("main", pager, element("div", *cards, class_="cards"), pager)


def _link(table: str, row: Mapping[str, Any]) -> Callable[[Part], str | None]:
    def link(part: Part) -> str | None:
        place = f"{row['_file']}.{row['_row']}"
        return f"/media/{table}/{place}/{quote(part.name, safe='')}" if kind_of(part) else None

    return link


def _title(request: Request, row: Mapping[str, Any]) -> Html:
    key = str(row["key"])
    return element("a", key, href=Request(request.table, f"key = {literal(key)}").address)


def _pager(request: Request, total: int, count: int) -> Html:
    start = request.start
    last = (total - 1) // COUNT * COUNT
    links = (
        ("first", "⇤", 0, start > 0),
        ("prev", "← Previous", max(0, start - COUNT), start > 0),
        ("next", "Next →", start + COUNT, start + count < total),
        ("last", "⇥", last, start + count < total),
    )
    made = [
        element("a", label, href=replace(request, start=to).address, rel=rel, aria_label=rel)
        if there
        else element("span", label, aria_hidden="true")
        for rel, label, to, there in links
    ]
    where = element("p", f"{start + 1:,} to {start + count:,} of {total:,}", class_="place")
    return element("nav", *made[:2], where, *made[2:], class_="pager", aria_label="pages")


def _empty(request: Request, total: int) -> Html:
    if total:
        text, label = f"There are only {total:,}.", "To the first"
        back = replace(request, start=0)
    elif request.where or request.picks:
        text, label, back = f"No {request.table} are like that.", "Show all", Request(request.table)
    else:
        return element("main", element("p", f"There are no {request.table}."), class_="empty")
    return element("main", element("p", text), element("p", element("a", label, href=back.address)), class_="empty")


def _error(error: OmnicurateError) -> Html:
    hint = element("p", error.hint, class_="quiet") if error.hint else None
    return element("main", element("div", element("pre", error.message), hint, role="alert", class_="error"))
