"""JSON written value by value, as lines or as one list with a value in each line."""

from __future__ import annotations

import json
from typing import Any, TextIO


class JsonLines:
    """One value a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, value: Any) -> None:
        """Write a value."""
        self._file.write(json.dumps(value, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Write what comes after the last value: nothing."""


class JsonList(JsonLines):
    """One list."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._before = "[\n"

    def add(self, value: Any) -> None:
        """Write a value."""
        self._file.write(self._before + json.dumps(value, ensure_ascii=False))
        self._before = ",\n"

    def finish(self) -> None:
        """End the list."""
        self._file.write("\n]\n")
