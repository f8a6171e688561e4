"""Histograms of numeric columns, counted in DuckDB and drawn as SVG: what was kept, what was rejected, and where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.inspect.dataset import query
from pipelines.render import number
from pipelines.report.cuts import Cut
from pipelines.view.columns import Leaf, leaves, literal
from pipelines.view.html import Html, element

_BINS = 40  # at most
_TAIL = 0.25  # a tail longer than this share of the middle 98 per cent goes into the bins at the ends
KINDS = ("kept", "cut", "elsewhere")
"""Kept; rejected by a filter on this very column; rejected elsewhere, when the column was there already."""

_WIDTH, _HEIGHT, _MARGIN = 340, 120, 18


@dataclass(frozen=True)
class Histogram:
    """Counts of a column's values by bin and kind, and what the kept ones are between.

    step: the width of a bin; 0 where all values are the same.
    """

    path: str
    low: float
    step: float
    bins: list[dict[str, int]]
    least: float
    median: float
    most: float
    cuts: list[Cut]

    @property
    def high(self) -> float:
        """Where the last bin ends."""
        return self.low + len(self.bins) * self.step

    def x(self, value: float) -> float:
        """Where a value is in the drawing."""
        return (value - self.low) / (self.high - self.low) * _WIDTH

    def total(self, kind: str) -> int:
        """How many rows of a kind have a value."""
        return sum(counts[kind] for counts in self.bins)


def histograms(connection: Any, cuts: list[Cut]) -> Iterator[Histogram]:
    """One for each numeric leaf column that has values."""
    rejected = {leaf.path for leaf in leaves(connection, "rejects") if _is_number(leaf)}
    for leaf in leaves(connection, "samples"):
        if _is_number(leaf):
            found = _histogram(connection, leaf, leaf.path in rejected, [c for c in cuts if c.path == leaf.path])
            if found is not None:
                yield found


def _is_number(leaf: Leaf) -> bool:
    kind = leaf.type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _histogram(connection: Any, leaf: Leaf, in_rejects: bool, cuts: list[Cut]) -> Histogram | None:
    values = f"SELECT {leaf.sql}::DOUBLE AS x, 'kept' AS kind FROM samples"
    if in_rejects:
        steps = " OR ".join(f"(flow = {literal(cut.flow)} AND step = {literal(cut.step)})" for cut in cuts) or "false"
        kind = f"CASE WHEN {steps} THEN 'cut' ELSE 'elsewhere' END"
        values = f"{values} UNION ALL SELECT {leaf.sql}::DOUBLE, {kind} FROM rejects"
    values = f"WITH v AS (SELECT * FROM ({values}) WHERE isfinite(x))"
    kept = "FILTER (kind = 'kept')"
    wanted = (
        "count(*) AS n, min(x) AS first, max(x) AS last, quantile_disc(x, [0.01, 0.99]) AS middle, "
        f"min(x) {kept} AS least, max(x) {kept} AS most, quantile_disc(x, 0.5) {kept} AS median"
    )
    [summary] = query(connection, f"{values} SELECT {wanted} FROM v").to_pylist()
    if summary["least"] is None:
        return None
    q01, q99 = summary["middle"]
    marks = [cut.at for cut in cuts]
    room = _TAIL * (q99 - q01)
    low = min([max(summary["first"], q01 - room), *marks])
    high = max([min(summary["last"], q99 + room), *marks])
    if low == high:  # nearly all are the same: the tails are what there is to see
        low, high = summary["first"], summary["last"]
    if pa.types.is_integer(leaf.type):
        low, high = math.floor(low), math.ceil(high)
        width = math.ceil((high - low + 1) / _BINS)
        low, bins = low - 0.5, math.ceil((high - low + 1) / width)
        step = float(width)
    else:
        bins = min(_BINS, max(10, round(2 * math.sqrt(summary["n"]))))
        step = (high - low) / bins
    place = f"greatest(0, least({bins - 1}, floor((x - {low!r}) / {step!r})))::INT" if step else "0"
    counted = [dict.fromkeys(KINDS, 0) for _ in range(bins)]
    by_bin = f"{values} SELECT {place} AS bin, kind, count(*) AS n FROM v GROUP BY ALL"
    for row in query(connection, by_bin).to_pylist():
        counted[row["bin"]][row["kind"]] = row["n"]
    same = summary["first"] == summary["last"] and not marks
    kept_ones = {name: summary[name] for name in ("least", "median", "most")}
    return Histogram(leaf.path, low, 0 if same else step, counted, **kept_ones, cuts=cuts)


def figure(histogram: Histogram) -> Html:
    """The histogram as a figure with its caption."""
    words = [f"{histogram.total('kept'):,} kept"]
    if histogram.total("cut"):
        steps = ", ".join(dict.fromkeys(cut.step for cut in histogram.cuts))
        words.append(f"{histogram.total('cut'):,} cut by {steps}")
    if histogram.total("elsewhere"):
        words.append(f"{histogram.total('elsewhere'):,} rejected by others")
    values = f"kept {number(histogram.least)} to {number(histogram.most)}, median {number(histogram.median)}"
    caption = element(
        "figcaption", element("b", histogram.path), element("span", values), element("span", ", ".join(words))
    )
    return element("figure", caption, _drawing(histogram), class_="histogram")


def _drawing(histogram: Histogram) -> Html:
    shapes = [*_bars(histogram), *_marks(histogram)]
    shapes.append(element("line", x1=0, x2=_WIDTH, y1=_HEIGHT, y2=_HEIGHT, class_="axis"))
    for tick in _ticks(histogram.low, histogram.high):
        x = histogram.x(tick)
        anchor = "start" if x < 14 else "end" if x > _WIDTH - 14 else "middle"
        shapes.append(element("text", number(tick), x=_at(x), y=_HEIGHT + 13, text_anchor=anchor))
    box = f"0 0 {_WIDTH} {_HEIGHT + _MARGIN}"
    return element("svg", *shapes, viewBox=box, role="img", aria_label=f"histogram of {histogram.path}")


def _bars(histogram: Histogram) -> Iterator[Html]:
    tallest = max(sum(counts.values()) for counts in histogram.bins)
    width = _WIDTH / len(histogram.bins)
    for place, counts in enumerate(histogram.bins):
        start = histogram.low + place * histogram.step
        what = ", ".join(f"{counts[kind]:,} {kind}" for kind in KINDS if counts[kind])
        stack = [element("title", f"{number(start)} to {number(start + histogram.step)}: {what}")]
        top = float(_HEIGHT)
        for kind in KINDS:
            if counts[kind]:
                height = max(0.6, counts[kind] / tallest * (_HEIGHT - 14))
                top -= height
                edges = {"x": _at(place * width), "y": _at(top), "width": _at(width - 0.8), "height": _at(height)}
                stack.append(element("rect", class_=kind, **edges))
        if what:
            yield element("g", *stack)


def _marks(histogram: Histogram) -> Iterator[Html]:
    for at in dict.fromkeys(cut.at for cut in histogram.cuts):
        x = histogram.x(at)
        before = x > 0.8 * _WIDTH
        yield element("line", x1=_at(x), x2=_at(x), y1=0, y2=_HEIGHT, class_="mark")
        label_at = _at(x - 4 if before else x + 4)
        yield element("text", number(at), x=label_at, y=9, text_anchor="end" if before else "start", class_="mark")


def _ticks(low: float, high: float) -> list[float]:
    """A few round numbers between two others."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step) + 1)]


def _at(value: float) -> str:
    return f"{value:.1f}"
