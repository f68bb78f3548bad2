"""The members of a local policy's tables: each is what it should be, or a ``ValueError`` that does
not repeat it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bearer_middleware.policy.model import Obligation
from bearer_middleware.settings.parsing import Unreadable, duration, is_list, is_table

ACTION = re.compile(r"\*|[^\s*]{1,256}\*?")
TYPE = re.compile(r"\*|[^\s*:]{1,256}")
_NAME = re.compile(r"[^\s]{1,256}")


def members(value: object, known: Sequence[str]) -> Mapping[str, Any]:
    """A table with no other members than these."""
    if not is_table(value):
        raise ValueError("must be a table")
    if not value.keys() <= set(known):
        raise ValueError(f"has an unknown member; the known ones are {', '.join(known)}")
    return value


def texts(value: object, name: str = "it") -> tuple[str, ...]:
    """A text, or a list of texts."""
    values = [value] if isinstance(value, str) else value
    if not is_list(values) or not all(isinstance(each, str) and each for each in values):
        raise ValueError(f"{name} must be text, or a list of texts")
    return tuple(str(each) for each in values)


def actions(value: object, name: str) -> tuple[str, ...]:
    """Names of actions, or their beginnings."""
    patterns = texts(value, name)
    if not patterns or not all(map(ACTION.fullmatch, patterns)):
        raise ValueError(f"{name} must be names, *, or the beginning of names such as read_*")
    return patterns


def types(value: object, name: str) -> tuple[str, ...]:
    """Types of resources."""
    patterns = texts(value, name)
    if not patterns or not all(map(TYPE.fullmatch, patterns)):
        raise ValueError(f"{name} must be types of resources, or *")
    return patterns


def word(value: object, name: str) -> str:
    """A name without spaces."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{name} must be a word without spaces")
    return value


def sentence(value: object, name: str) -> str:
    """Text for the caller."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{name} must be one line of text")
    return value


def seconds(value: object, name: str) -> int:
    """A duration, in whole seconds."""
    try:
        return int(duration(0)(value))
    except Unreadable as error:
        raise ValueError(f"{name} {error}") from None


def obligations(value: object, name: str) -> tuple[Obligation, ...]:
    """A list of obligations."""
    if not is_list(value):
        raise ValueError(f"{name} must be a list of tables with a type")
    read = []
    for each in value:
        written = members(each, ("type", "id", "properties"))
        kind, identifier = written.get("type"), written.get("id", "")
        properties = written.get("properties", {})
        if not (isinstance(kind, str) and isinstance(identifier, str) and is_table(properties)):
            raise ValueError(f"{name} must be a list of tables with a type")
        read.append(Obligation(kind, identifier, properties))
    return tuple(read)
