"""What a decision point tells besides yes or no, read with care: it is text of others.

All of it is cut to a length and freed of what a log line or a header cannot take.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from bearer_middleware.policy.model import Obligation

_LONGEST_WORD, _LONGEST_SENTENCE, _MOST = 256, 512, 32
#: What a challenge can hold between quotes (RFC 9470 section 3, RFC 6749 appendix A).
_ACR = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")
_LONGEST_AGE = 2**31
#: Of an obligation that cannot be read. Nobody knows how to meet it, so it is a denial.
UNREADABLE = Obligation("unreadable")
_STEP_UP = "step-up"


def word(value: object) -> str | None:
    """A short text, such as an id or a version; a number is as good as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 2**63 else None
    return clean(value, _LONGEST_WORD)


def clean(value: object, longest: int) -> str | None:
    """A text without line breaks and the like, cut; ``None`` where there is none."""
    if not isinstance(value, str):
        return None
    text = "".join(char if char.isprintable() else " " for char in value[:longest]).strip()
    return text or None


def words(*values: object) -> tuple[str, ...]:
    """Reasons for logs and audit: a text, a list of texts or a table of texts each."""
    found = (word(item) for value in values for item in _items(value))
    return tuple(dict.fromkeys(one for one in found if one))[:_MOST]


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else (value,)


def sentence(value: object) -> str | None:
    """What the caller may be told: a text, or the English one of a table by language (``en``,
    ``en-403``) or by code (``403``).
    """
    if not isinstance(value, Mapping):
        return clean(value, _LONGEST_SENTENCE)
    english = [name for name in value if name.lower().split("-")[0] == "en"]
    coded = [name for name in value if name.isdecimal()]
    names = [name for name in ("en", *english, *coded, *value) if name in value]
    return clean(value[names[0]], _LONGEST_SENTENCE) if names else None


def obligations(value: object) -> tuple[Obligation, ...]:
    """The obligations profile of AuthZEN: ``[{"id", "type", "properties"}]``. None is lost."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MOST:
        return (UNREADABLE,)
    return tuple(_obligation(item) for item in value)


def _obligation(item: object) -> Obligation:
    if isinstance(item, str):
        item = {"type": item}
    if not isinstance(item, Mapping):
        return UNREADABLE
    kind, properties = word(item.get("type")), item.get("properties", {})
    if kind is None or not isinstance(properties, Mapping):
        return UNREADABLE
    if kind == _STEP_UP:  # both members of the profile, as one
        levels = _acr(properties.get("acr_value")) + _acr(properties.get("acr_values"))
        properties = {**properties, "acr_values": list(dict.fromkeys(levels))}
    return Obligation(kind, word(item.get("id")) or "", properties)


def acr_values(value: object, obliged: Iterable[Obligation] = ()) -> tuple[str, ...]:
    """Which authentication would do, in order of preference: a list, or words with spaces between
    them; and what an obligation to step up names.
    """
    found = _acr(value)
    for obligation in obliged:
        if obligation.type == _STEP_UP:
            found += _acr(obligation.properties["acr_values"])
    return tuple(dict.fromkeys(found))[:_MOST]


def _acr(value: object) -> list[str]:
    items = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, str) and _ACR.fullmatch(item)]


def max_age(value: Any) -> int | None:
    """Seconds since the user authenticated (RFC 9470 section 3); a text of digits will do."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _LONGEST_AGE else None
