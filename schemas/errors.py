"""Every error that Omnicurate raises on purpose.

OmnicurateError           something the user can read: what, where, what was expected, what to do
├── RecipeError           the recipe is wrong; knows file:line:column
├── MissingExtra          an optional package is needed; names the extra that brings it
├── DataError             an input as a whole cannot be read
├── StoreError            the store or a published data set is not what it should be
├── StageError            a stage broke its contract (a bug in the stage, not in the data)
└── RunError              the run must stop: error budget spent, empty output, samples lost
SampleError               this one sample is bad; the engine turns it into a reject and goes on
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OmnicurateError(Exception):
    """Base of the errors that are shown to the user as text, without a traceback."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class RecipeError(OmnicurateError):
    """The recipe is wrong. `where` is `file:line:column` when it is known."""

    def __init__(self, message: str, hint: str = "", where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, hint)
        self.args = (message, hint, where)
        self.where = where


class MissingExtra(OmnicurateError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"the package {package} is not installed", f"pip install 'omnicurate[{extra}]'")
        self.args = (package, extra)


class DataError(OmnicurateError):
    """An input as a whole (a file, a table) cannot be read."""


class StoreError(OmnicurateError):
    """The store or a published data set is not what it should be."""


class StageError(OmnicurateError):
    """A stage broke its contract: it read an undeclared column, returned the wrong number of results, …"""


class RunError(OmnicurateError):
    """The run cannot go on, or its result must not be trusted."""


class SampleError(Exception):
    """This sample is bad. `reason` is a fixed word; `detail` holds no address, path or exception text."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint that names the nearest valid name, or all of them when none is near."""
    names = sorted(set(valid))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid here: {', '.join(names)}" if names else ""
