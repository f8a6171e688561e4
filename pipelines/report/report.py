"""The report of a data set: one HTML file with the funnel, histograms, balance, and samples that can be seen and heard.

It is a function of the data set alone: the same data set gives the same bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.inspect.dataset import DataSet, query
from pipelines.render import number, size
from pipelines.report.cuts import Cut, conditions, cuts
from pipelines.report.histogram import Histogram, figure, histograms
from pipelines.view import cards
from pipelines.view.columns import Facet, facets, literal
from pipelines.view.html import Html, document, element, joined
from pipelines.view.media import Media, kind_of, media_type
from schemas.digest import draws
from schemas.errors import OmnicurateError, SampleError
from schemas.manifest import Manifest, StepCount
from schemas.sample import Part
from schemas.store import Store

_SEED = 0
_SAMPLES, _NEAR, _OF_REASON = 12, 2, 3  # cards: of samples, on either side of a cut, of each reason
_LARGEST, _TOTAL = 2_000_000, 25_000_000  # bytes of a medium that is embedded, and of all of them
_SHARD_BARS = 100
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def report(data: DataSet, store: Store) -> bytes:
    """The report as HTML. store: where media of rejects are that a run made."""
    embedder = _Embedder(data, store)
    made = cuts(data.manifest) if data.manifest else []
    with data.connect() as connection:
        columns = list(histograms(connection, made))
        sections = [
            _funnel(data.manifest),
            _mixtures(data.manifest),
            _columns(columns),
            _balance(facets(connection, "samples"), _count(connection, "samples")),
            _shards(data.manifest),
            _section("Samples", "Drawn at random.", _drawn(connection, "samples", "", _SAMPLES, embedder)),
            *(_near(connection, cut, embedder) for cut in _with_values(made, columns)),
            *_rejects(connection, embedder),
        ]
        head = _head(data, _count(connection, "samples"))
    body = element("body", head, element("main", *sections))
    style = "".join(
        path.read_text() for path in (_beside(cards.__file__, "cards.css"), _beside(__file__, "report.css"))
    )
    meta = element("meta", http_equiv="Content-Security-Policy", content=_POLICY)
    return document(f"{data.name} · report", joined(meta, element("style", Html(style))), body)


def _beside(file: str, name: str) -> Path:
    return Path(file).parent / name


class _Embedder:
    """Turns media into data: URIs, as long as they are small and there is room."""

    def __init__(self, data: DataSet, store: Store) -> None:
        self._media = {table: Media(data, table, store) for table in ("samples", "rejects")}
        self._left = _TOTAL

    def link(self, table: str) -> Callable[[Part], str | None]:
        """The embedded bytes of a part of a row of that table; None for what is too large or not there."""

        def embed(part: Part) -> str | None:
            if kind_of(part) is None or part.size > min(_LARGEST, self._left):
                return None
            try:
                data = self._media[table].read(part)
            except (SampleError, OmnicurateError, OSError):
                return None
            self._left -= part.size
            return f"data:{media_type(part)};base64,{base64.b64encode(data).decode()}"

        return embed


def _section(title: str, lead: str | Html, content: Iterable[Html], of: str = "cards") -> Html | None:
    made = list(content)
    if not made:
        return None
    return element(
        "section", element("h2", title), element("p", lead, class_="quiet"), element("div", *made, class_=of)
    )


def _count(connection: Any, table: str, where: str = "") -> int:
    count: int = query(connection, f"SELECT count(*) AS n FROM {table} {where}").column("n")[0].as_py()
    return count


def _head(data: DataSet, samples: int) -> Html:
    facts = {"samples": f"{samples:,}"}
    manifest = data.manifest
    if manifest is not None:
        facts |= {"rejected": f"{manifest.rejected:,}", "size": size(manifest.bytes)}
    facts["shards"] = f"{len(data.shards):,}"
    if manifest is not None:
        none = manifest.samples - sum(manifest.licenses.values())
        stated = [f"{name} {count:,}" for name, count in manifest.licenses.items()]
        licenses = ", ".join([*stated, *([f"none stated {none:,}"] if none and stated else [])])
        facts |= {"licences": licenses or "none stated", "seed": str(manifest.seed)}
    listed = [element("div", element("dt", name), element("dd", value)) for name, value in facts.items()]
    version = element("span", manifest.version, class_="version") if manifest else None
    return element("header", element("h1", data.name, version), element("dl", *listed))


def _funnel(manifest: Manifest | None) -> Html | None:
    if manifest is None:
        return None
    filters = conditions(manifest)
    most = max((step.read for step in manifest.steps), default=0)
    rows = [_step(step, most, filters.get((step.flow, step.step))) for step in manifest.steps]
    return _section("From read to kept", "What each step read, kept and rejected.", rows, "funnel")


def _step(step: StepCount, most: int, sql: str | None) -> Html:
    others = {"not taken": step.left, "taken again": step.repeated}
    counts = [*step.rejected.items(), *((what, count) for what, count in others.items() if count)]
    reasons = ", ".join(f"{count:,} {what}" for what, count in counts)
    kept, rejected = (1000 * count / max(1, most) for count in (step.kept, sum(step.rejected.values())))
    bar = element(
        "svg",
        element("rect", width=f"{kept:.1f}", height=10, class_="kept"),
        element("rect", x=f"{kept:.1f}", width=f"{rejected:.1f}", height=10, class_="cut"),
        viewBox="0 0 1000 10",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return element(
        "div",
        element("p", element("b", f"{step.flow}.{step.step}"), element("span", step.use), class_="name"),
        element("div", bar, element("code", sql) if sql else None),
        element("p", f"{step.kept:,}", class_="kept"),
        element("p", reasons, class_="why"),
    )


def _mixtures(manifest: Manifest | None) -> Html | None:
    figures = []
    for flow, shares in manifest.mixtures.items() if manifest is not None else ():
        total = max(1, sum(share.taken for share in shares))
        rows = []
        for share in shares:
            epochs = share.taken / max(1, share.size)
            short = f" · {share.short:,} too few" if share.short else ""
            rows.append(_bar(f"{share.source} · {epochs:.2f} x {share.size:,}{short}", share.taken, total))
        figures.append(element("figure", element("h3", flow), *rows))
    return _section("Mixture", "What was taken of each source.", figures, "balance")


def _columns(found: list[Histogram]) -> Html | None:
    varied = [figure(histogram) for histogram in found if histogram.step]
    same = [f"{h.path} is always {number(h.least)}" for h in found if not h.step]
    lead = joined(
        element("span", "kept", class_="key kept"),
        element("span", "rejected by a filter on this column", class_="key cut"),
        element("span", "rejected by other steps", class_="key elsewhere"),
    )
    content = [*varied, *([element("p", "; ".join(same) + ".", class_="quiet")] if same else [])]
    return _section("Columns", lead, content, "histograms")


def _balance(found: list[Facet], total: int) -> Html | None:
    figures = []
    for facet in found:
        counts = [(value.value, value.rows) for value in facet.values]
        none = total - sum(count for _, count in counts)
        rows = [_bar(label, count, total) for label, count in counts + ([("none", none)] if none else [])]
        figures.append(element("figure", element("h3", facet.name), *rows))
    return _section("Balance", "Samples by columns of few values.", figures, "balance")


def _bar(label: str, count: int, total: int) -> Html:
    share = element("meter", value=count, max=total, aria_hidden="true")
    percent = f"{count:,} · {count / total:.0%}"
    return element("div", element("span", label, class_="label"), element("span", percent, class_="count"), share)


def _shards(manifest: Manifest | None) -> Html | None:
    if manifest is None or not manifest.shards:
        return None
    each = -(-len(manifest.shards) // _SHARD_BARS)
    groups = [manifest.shards[i : i + each] for i in range(0, len(manifest.shards), each)]
    means = [(sum(s.bytes for s in g) / len(g), sum(s.samples for s in g) / len(g)) for g in groups]
    names = [g[0].name if len(g) == 1 else f"{g[0].name} to {g[-1].name}" for g in groups]
    figures = [
        _shard_bars("bytes", [(name, m[0], size(m[0])) for name, m in zip(names, means, strict=True)]),
        _shard_bars("samples", [(name, m[1], number(round(m[1], 1))) for name, m in zip(names, means, strict=True)]),
    ]
    lead = f"{len(manifest.shards):,} shards" + (f"; a bar is the mean of {each} shards." if each > 1 else ".")
    return _section("Shards", lead, figures, "histograms")


def _shard_bars(what: str, bars: list[tuple[str, float, str]]) -> Html:
    width = 340 / max(12, len(bars))
    most = max(value for _, value, _ in bars)
    shapes = []
    for place, (name, value, text) in enumerate(bars):
        height = 90 * value / max(1, most)
        box = {"x": f"{place * width:.1f}", "y": f"{90 - height:.1f}", "width": f"{width - 1:.1f}"}
        bar = element("rect", height=f"{height:.1f}", class_="kept", **box)
        shapes.append(element("g", element("title", f"{name}: {text}"), bar))
    values = [value for _, value, _ in bars]
    texts = {value: text for _, value, text in bars}
    caption = element("figcaption", element("b", what), element("span", f"{texts[min(values)]} to {texts[most]}"))
    drawing = element("svg", *shapes, viewBox="0 0 340 90", role="img", aria_label=f"{what} of the shards")
    return element("figure", caption, drawing, class_="histogram")


def _drawn(connection: Any, table: str, where: str, count: int, embedder: _Embedder) -> Iterator[Html]:
    """Cards of some rows, drawn by their place."""
    total = _count(connection, table, where)
    if not total:
        return
    places = draws(_SEED, f"report {table} {where}", map(str, range(100 * count))) % total
    for place in list(dict.fromkeys(places.tolist()))[:count]:
        for row in query(connection, f"FROM {table} {where} LIMIT 1 OFFSET {place}").to_pylist():
            yield cards.card(row, embedder.link(table))


def _with_values(made: list[Cut], columns: list[Histogram]) -> list[Cut]:
    """The cuts of columns that have a histogram."""
    known = {histogram.path for histogram in columns}
    return [cut for cut in made if cut.path in known]


def _near(connection: Any, cut: Cut, embedder: _Embedder) -> Html | None:
    """The rows nearest to a cut: those that just stayed, and those that just went."""
    sql = ".".join(f'"{name}"' for name in cut.path.split("."))
    rejected = f"WHERE flow = {literal(cut.flow)} AND step = {literal(cut.step)}"
    found: list[Html] = []
    for table, where in (("samples", ""), ("rejects", rejected)):
        present = f"{where} AND" if where else "WHERE"
        nearest = f"{present} {sql} IS NOT NULL ORDER BY abs({sql} - {cut.at!r}), key LIMIT {_NEAR}"
        for row in query(connection, f"SELECT *, {sql}::DOUBLE AS _value FROM {table} {nearest}").to_pylist():
            note = f"{cut.path} is {number(row.pop('_value'))}: {'kept' if table == 'samples' else 'rejected'}"
            found.append(cards.card(row, embedder.link(table), note=note))
    title = f"Either side of {cut.path} = {number(cut.at)}"
    return _section(title, f"The nearest to the cut of {cut.flow}.{cut.step}.", found, "cards sides")


def _rejects(connection: Any, embedder: _Embedder) -> Iterator[Html | None]:
    groups = "SELECT flow, step, reason, count(*) AS n FROM rejects GROUP BY ALL ORDER BY n DESC, flow, step, reason"
    for group in query(connection, groups).to_pylist():
        where = "WHERE " + " AND ".join(f"{name} = {literal(group[name])}" for name in ("flow", "step", "reason"))
        lead = f"{group['n']:,} at {group['flow']}.{group['step']}."
        cards_of = _drawn(connection, "rejects", where, _OF_REASON, embedder)
        yield _section(f"Rejected: {group['reason']}", lead, cards_of)
