"""Chat messages: the canonical form of a training conversation.

The `messages` column holds the canonical JSON of a list of messages; content refers to media by part name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from schemas.digest import canonical_json


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(_Model):
    """Plain text."""

    type: Literal["text"] = "text"
    text: str


class Medium(_Model):
    """A reference to a part of the sample."""

    type: Literal["image", "audio", "video"]
    part: str


Content = Annotated[Text | Medium, Field(discriminator="type")]


class Message(_Model):
    """One turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: list[Content]


_CONVERSATION = TypeAdapter(list[Message])


def parse_messages(text: str) -> list[Message]:
    """Messages from their JSON. Raises pydantic.ValidationError."""
    return _CONVERSATION.validate_json(text)


def dump_messages(messages: list[Message]) -> str:
    """The canonical JSON of messages: equal conversations give equal bytes."""
    return canonical_json(_CONVERSATION.dump_python(messages, mode="json"))
