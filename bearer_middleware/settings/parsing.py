"""From what was written, text or a natural Python type, to the value of a setting.

A parser takes any object and returns the value or raises :class:`Unreadable`, never
anything else. What it says is what would be right; it never repeats what was written,
because people paste secrets into the wrong variable.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeGuard, TypeVar, cast

from bearer_middleware.settings.options import Options
from bearer_middleware.settings.secret import Secret

T = TypeVar("T")
Parser = Callable[[object], T]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_INTEGER = re.compile(r"[0-9]{1,12}")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SWITCH = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}

YEAR = 366 * 86_400


class Unreadable(ValueError):
    """The value cannot be used; the message says which one can."""


def text(value: object) -> str:
    """Text without surrounding space."""
    if not isinstance(value, str):
        raise Unreadable("must be text")
    stripped = value.strip()
    if not stripped:
        raise Unreadable("is empty; give a value or leave it out")
    if _CONTROL.search(stripped):
        raise Unreadable("must be text without control characters")
    return stripped


def secret(value: object) -> Secret:
    """A secret, exactly as written: its spaces count."""
    written = value.reveal() if isinstance(value, Secret) else value
    text(written)
    if not isinstance(written, str) or _CONTROL.search(written):
        raise Unreadable("must be text without control characters, a newline at its end included")
    return Secret(written)


def path(value: object) -> str:
    """The path of a file."""
    if isinstance(value, os.PathLike):
        try:
            value = os.fspath(cast("os.PathLike[str]", value))
        except TypeError:
            raise Unreadable("must be text") from None
    return text(value)


def switch(value: object) -> bool:
    """``true`` or ``false``."""
    choice = _SWITCH.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(choice, bool):
        raise Unreadable("must be true or false")
    return choice


def duration(least: float, most: float = YEAR) -> Parser[float]:
    """Seconds, also as ``30s``, ``5m``, ``24h``, ``30d`` or a ``timedelta``."""
    wanted = f"must be a duration from {least} to {most} seconds, such as 30, 30s, 5m or 24h"

    def parse(value: object) -> float:
        if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
            value = float(match[1]) * _SECONDS[match[2]]
        elif isinstance(value, timedelta):
            value = value.total_seconds()
        # The range is asked before the conversion: float() of a huge int overflows.
        if not _is_number(value) or not least <= value <= most:
            raise Unreadable(wanted)
        return float(value)

    return parse


def integer(least: int, most: int) -> Parser[int]:
    """A whole number in a range."""

    def parse(value: object) -> int:
        if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Unreadable(f"must be a whole number from {least} to {most}")
        return int(value)

    return parse


def choice(*names: str) -> Parser[str]:
    """One of a few words."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or value.strip() not in names:
            raise Unreadable(f"must be one of {', '.join(names)}")
        return value.strip()

    return parse


def matching(pattern: str, wanted: str) -> Parser[str]:
    """Text of which the whole matches a regular expression."""
    compiled = re.compile(pattern)

    def parse(value: object) -> str:
        written = text(value)
        if not compiled.fullmatch(written):
            raise Unreadable(f"must be {wanted}")
        return written

    return parse


def listing(item: Parser[str], separators: str = ",", least: int = 0) -> Parser[tuple[str, ...]]:
    """Several values in their order, each once: text with separators, or a collection."""

    def parse(value: object) -> tuple[str, ...]:
        written = _items(value, separators)
        wrong: list[str] = []
        items: list[str] = []
        for position, one in enumerate(written, 1):
            try:
                items.append(item(one))
            except Unreadable as error:
                wrong.append(f"item {position} {error}" if len(written) > 1 else str(error))
        if wrong:
            raise Unreadable("; ".join(wrong))
        if len(items) < least:
            raise Unreadable("is empty; give a value or leave it out")
        return tuple(dict.fromkeys(items))

    return parse


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Is this a list, or a tuple in its place?"""
    return isinstance(value, list | tuple)


def is_table(value: object) -> TypeGuard[Mapping[str, object]]:
    """Is this a table, as TOML and JSON have it?"""
    return isinstance(value, Mapping)


def table(value: object) -> Options:
    """A table of TOML, a ``dict``, or the text of a JSON object."""
    if isinstance(value, str):
        value = json_value(value)
    if not is_table(value) or not all(isinstance(name, str) for name in value):
        raise Unreadable("must be a table, or a JSON object")
    return Options(value)


def json_value(written: str) -> object:
    """What a text of JSON says."""
    try:
        value: object = json.loads(written)
    except (ValueError, RecursionError):
        raise Unreadable("must be a table of the configuration file, or JSON") from None
    return value


def _items(value: object, separators: str) -> list[object]:
    if isinstance(value, str):
        # Space around and between the separators is not an item.
        parts = re.split(f"[{separators}]", text(value))
        return [part for part in parts if part.strip()] or [""]
    if is_list(value):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(cast("set[object]", value), key=str)
    raise Unreadable("must be text or a list of texts")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
