"""What people decided: read from filled-in queues of both forms, kept as JSON lines that recipes can read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import DataError, StoreError
from schemas.store import sync_directory

_BETWEEN = re.compile(r"[ \t\r\n,]*")  # the elements of a list


class Decision(BaseModel):
    """What became of a sample. `text` is the one that holds from now on: the old, the edited, or none."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    key: str
    decision: Literal["accept", "edit", "reject"]
    text: str | None = None
    note: str = ""
    reviewer: str = ""

    def line(self) -> str:
        """One line of JSON. `sample` says the key again: recipes join by it, for no column can be called `key`."""
        return json.dumps({"key": self.key, "sample": self.key, **self.model_dump(exclude={"key"})}, ensure_ascii=False)


class Problem(NamedTuple):
    """What cannot be understood, and in which line."""

    line: int
    what: str


def decide(key: str, before: str | None, given: Mapping[str, Any], reviewer: str) -> Decision | None:
    """A decision about a text, from what was filled in; None where nothing was. Raises ValueError for contradictions.

    An accepted text that was changed counts as edited: a correction must not be lost to a wrong button.
    """
    decision, edited, note = (given.get(name) for name in ("decision", "edited", "note"))
    if edited == "" and decision != "edit":  # an empty field of a form
        edited = None
    if decision is None:
        if edited is not None and edited != before:
            raise ValueError("an edited text without a decision")
        return None
    if decision not in ("accept", "edit", "reject"):
        raise ValueError(f"the decision {decision!r} is none of accept, edit, reject")
    if decision == "edit" and edited is None:
        raise ValueError("the decision is edit, but there is no edited text")
    for name, value in (("edited text", edited), ("note", note)):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"the {name} is no text")
    rest = {"key": key, "note": note or "", "reviewer": reviewer}
    if decision == "reject":
        return Decision(decision="reject", **rest)
    if decision == "edit" or (edited is not None and edited != (before or "")):
        return Decision(decision="edit", text=edited, **rest)
    return Decision(decision="accept", text=before, **rest)


def read_decisions(path: str) -> tuple[list[Decision], int, list[Problem]]:
    """Decisions in a filled-in queue (JSON lines, or an export of Label Studio), how many tasks have none, problems."""
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    found: dict[str, Decision] = {}
    problems: list[Problem] = []
    undecided = 0
    label_studio = content.lstrip().startswith("[")
    for number, task in _elements(content) if label_studio else _lines(content):
        try:
            if not isinstance(task, dict):
                raise ValueError(task if isinstance(task, str) else "not a task")
            decision = _of_label_studio(task) if label_studio else _of_line(task)
            if decision is None:
                undecided += 1
            elif decision.key in found:
                raise ValueError(f"the key {decision.key!r} stands in the file twice")
            else:
                found[decision.key] = decision
        except ValueError as error:
            problems.append(Problem(number, str(error)))
    return list(found.values()), undecided, problems


def _lines(content: str) -> Iterator[tuple[int, Any]]:
    """Line number and value; what is no JSON is a text that says so."""
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                yield number, "not JSON"


def _elements(content: str) -> Iterator[tuple[int, Any]]:
    """The same for the elements of a JSON list."""
    decoder = json.JSONDecoder()
    at, number = content.index("[") + 1, 1 + content.count("\n", 0, content.index("["))
    while True:
        between = _BETWEEN.match(content, at)
        assert between is not None
        number += content.count("\n", at, between.end())
        at = between.end()
        if content[at : at + 1] == "]":
            return
        try:
            value, end = decoder.raw_decode(content, at)
        except ValueError:
            yield number, "not JSON from here on"
            return
        yield number, value
        number += content.count("\n", at, end)
        at = end


def _of_line(task: dict[str, Any]) -> Decision | None:
    return decide(_key(task), task.get("text"), task, str(task.get("reviewer") or ""))


def _key(values: Any) -> str:
    key = values.get("key") if isinstance(values, dict) else None
    if not isinstance(key, str) or not key:
        raise ValueError("there is no key")
    return key


def _of_label_studio(task: dict[str, Any]) -> Decision | None:
    """The newest annotation that was not cancelled."""
    data = task.get("data")
    key = _key(data)
    assert isinstance(data, dict)
    annotations = [a for a in task.get("annotations") or () if isinstance(a, dict) and not a.get("was_cancelled")]
    if not annotations:
        return None
    newest = max(annotations, key=lambda annotation: str(annotation.get("updated_at") or ""))
    values: dict[str, Any] = {}
    for result in newest.get("result") or ():
        found = result.get("value") if isinstance(result, dict) else None
        if isinstance(found, dict) and result.get("type") in ("choices", "textarea"):
            values[str(result.get("from_name"))] = _first(found.get("choices") or found.get("text"))
    who = newest.get("completed_by")
    reviewer = who.get("email") or who.get("id") if isinstance(who, dict) else who
    return decide(key, data.get("text"), values, "" if reviewer is None else str(reviewer))


def _first(value: Any) -> Any:
    """Label Studio gives lists, of which our interface lets people fill in one element; a single text comes as such."""
    if isinstance(value, str):
        return value
    return value[0] if isinstance(value, list) and value else None


def save(path: Path, decisions: Iterable[Decision]) -> None:
    """Replace a file of decisions: whoever looks sees the old or the new one, whole, even after a power cut."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(f"{decision.line()}\n" for decision in decisions)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(str(path.parent))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def load(path: Path) -> list[Decision]:
    """A file that `save` wrote. Raises DataError, with the line, where it is not as it was."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:
            found.append(Decision.model_validate_json(line))
        except ValidationError as error:
            raise DataError(f"{path}:{number}: {error.errors()[0]['msg']}", "remove the line") from None
    return found
