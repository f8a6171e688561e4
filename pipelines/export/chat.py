"""Conversations: LLaVA's JSON and the chat lines of the OpenAI API."""

from __future__ import annotations

import base64
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from pipelines.export.form import Form, Options
from pipelines.export.jsonfile import JsonLines, JsonList
from pipelines.export.media import MediaFolder
from pipelines.export.rows import Row
from pipelines.view.media import media_type
from schemas.errors import SampleError
from schemas.message import Medium, Message, Text, parse_messages
from schemas.sample import KINDS


def conversation(row: Row) -> list[Message]:
    """The messages of a sample; one medium with one caption or text is a pair of messages.

    Raises SampleError(no_messages, broken_messages) where it has none and no such pair is plainly meant.
    """
    if row.value("messages") is None:
        return _pair(row)
    try:
        messages = parse_messages(row.text("messages"))
    except ValidationError:
        raise SampleError("broken_messages") from None
    if not messages:
        raise SampleError("no_messages")
    if any(message.role == "tool" for message in messages):
        raise SampleError("tool_messages")  # both forms want calls with ids, which messages do not have
    return messages


def _pair(row: Row) -> list[Message]:
    media = row.media()
    texts = [text for text in (row.text("caption"), row.text("text")) if text]
    if len(media) != 1 or len(texts) != 1:
        raise SampleError("no_messages")
    medium = Medium.model_validate({"type": KINDS[media[0].format], "part": media[0].name})
    return [Message(role="user", content=[medium]), Message(role="assistant", content=[Text(text=texts[0])])]


_LLAVA_ROLES: Final = {"system": "system", "user": "human", "assistant": "gpt"}


class Llava(Form):
    """`data.json`: a list of conversations with placeholders, and the media that stand for them in order."""

    def __init__(self, folder: Path, media: MediaFolder, options: Options, files: ExitStack) -> None:
        super().__init__(folder, media, options, files)
        self._list = JsonList(self.text_file("data.json"))

    def add(self, row: Row) -> None:
        """One object: a single medium of a kind is a path, several are a list."""
        paths: dict[str, list[str]] = {}
        turns = []
        for message in conversation(row):
            for item in message.content:
                if isinstance(item, Medium):
                    paths.setdefault(item.type, []).append(self.media.copy(row.key, row.whole(item.type, item.part)))
            turns.append({"from": _LLAVA_ROLES[message.role], "value": _placeholders(message)})
        named = {kind: found if len(found) > 1 else found[0] for kind, found in paths.items()}
        self._list.add({"id": row.key, **named, "conversations": turns})

    def finish(self) -> None:
        """End the list."""
        self._list.finish()


def _placeholders(message: Message) -> str:
    """`<image>` and its like on lines of their own, between the texts. Raises SampleError(placeholder_in_text)."""
    pieces = []
    for is_text, items in groupby(message.content, lambda item: isinstance(item, Text)):
        if is_text:
            text = "".join(item.text for item in items if isinstance(item, Text))
            if any(f"<{kind}>" in text for kind in KINDS.values()):
                raise SampleError("placeholder_in_text")
            pieces.append(text)
        else:
            pieces += [f"<{item.type}>" for item in items]
    return "\n".join(pieces)


class OpenAI(Form):
    """`messages.jsonl`: one chat a line, as the OpenAI API and servers that are like it take them."""

    takes = frozenset({"inline"})

    def __init__(self, folder: Path, media: MediaFolder, options: Options, files: ExitStack) -> None:
        super().__init__(folder, media, options, files)
        self._lines = JsonLines(self.text_file("messages.jsonl"))

    def add(self, row: Row) -> None:
        """One chat; what is text alone is a string."""
        messages = [{"role": message.role, "content": self._content(row, message)} for message in conversation(row)]
        self._lines.add({"messages": messages})

    def _content(self, row: Row, message: Message) -> str | list[dict[str, Any]]:
        texts = [item.text for item in message.content if isinstance(item, Text)]
        if len(texts) == len(message.content):
            return "".join(texts)
        return [self._part(row, item) for item in message.content]

    def _part(self, row: Row, item: Text | Medium) -> dict[str, Any]:
        if isinstance(item, Text):
            return {"type": "text", "text": item.text}
        part = row.whole(item.type, item.part)
        if item.type == "audio":  # the form knows no other place for audio
            data = base64.b64encode(self.media.read(part)).decode()
            return {"type": "input_audio", "input_audio": {"data": data, "format": part.format}}
        if self.options.inline:
            url = f"data:{media_type(part)};base64,{base64.b64encode(self.media.read(part)).decode()}"
        else:
            url = self.media.copy(row.key, part)
        return {"type": f"{item.type}_url", f"{item.type}_url": {"url": url}}
