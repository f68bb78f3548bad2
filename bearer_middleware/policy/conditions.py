"""Conditions of local rules: one comparison each, such as
``resource.properties.ownerID == subject.id``.

On both sides stands a value (text in quotes, a number, ``true``, ``false``, a list) or a
reference into the request: ``subject``, ``resource``, ``action`` or ``context`` with names after
dots, in quotes where a name has more than letters, digits, ``_`` and ``-``. Between them stands
``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in`` or ``not in``; after one reference may stand
``is present`` or ``is absent``.

Types count, as in JSON: ``1``, ``true`` and ``"1"`` are three things. ``in`` looks into a list,
or for a member of an object, never into a text. Only numbers are less or greater.

What is missing is equal to nothing and in no list, two missing things included. Where a
comparison asks the contrary (``!=``, ``not in``), or for an order, and something is missing or
has no order, nobody can know, and then it never helps the caller: in what permits it does not
hold, in what denies it does.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bearer_middleware.policy.model import AccessRequest

#: What the policy itself knows of the subject, besides what the request says.
Facts = Mapping[str, Any]
Condition = Callable[[AccessRequest, Facts], bool]
Getter = Callable[[AccessRequest, Facts], Any]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"[^"\\]*"|'[^']*')
    |(?P<number>-?[0-9]{1,15}(?:\.[0-9]{1,9})?(?![\w.]))
    |(?P<word>[A-Za-z_][\w-]*(?:\.(?:[A-Za-z_][\w-]*|"[^"\\]+"|'[^']+'))*)
    |(?P<sign>==|!=|<=|>=|<|>|\[|\]|,)
    )""",
    re.VERBOSE,
)
_NAME = re.compile(r"""\.(?:"([^"]+)"|'([^']+)'|([^."']+))""")
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WANTED = (
    "must be a comparison such as resource.properties.ownerID == subject.id, with ==, !=, <, <=, "
    ">, >=, in, not in, is present or is absent"
)
_Token = tuple[str, str]
# Made once: to write ``list | tuple`` makes a type each time.
_LISTS, _COLLECTIONS = (list, tuple), (list, tuple, set, frozenset)
_NUMBERS = (int, float)


def condition(written: object, *, wary: bool) -> Condition:
    """The condition of a text. ``wary`` is for what denies: there it holds where nobody can know.
    Raises ``ValueError``.
    """
    if not isinstance(written, str):
        raise ValueError(_WANTED)
    tokens = _tokens(written)
    left = _side(tokens)
    comparison = _comparison(tokens)
    if comparison in ("present", "absent"):
        made = _presence(left, wanted=comparison == "present")
    else:
        made = _compared(comparison, left, _side(tokens), wary=wary)
    if tokens:
        raise ValueError(_WANTED)
    return made


def reference(written: object) -> Getter:
    """What a reference finds in a request; ``None`` where it is missing. Raises ``ValueError``."""
    if (
        not isinstance(written, str)
        or not (match := _TOKEN.fullmatch(written))
        or not match["word"]
    ):
        raise ValueError("must be a reference such as subject.properties.roles")
    return _getter(match["word"])


def same(one: Any, other: Any) -> bool:
    """Are these two values the same, as JSON has it?"""
    if isinstance(one, _LISTS) and isinstance(other, _LISTS):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _tokens(written: str) -> list[_Token]:
    tokens: list[_Token] = []
    place, written = 0, written.strip()
    while place < len(written):
        match = _TOKEN.match(written, place)
        if match is None:
            raise ValueError(_WANTED)
        tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
        place = match.end()
    return tokens[::-1]  # the next one is at the end


def _take(tokens: list[_Token]) -> _Token:
    return tokens.pop() if tokens else ("", "")


def _comparison(tokens: list[_Token]) -> str:
    _, said = _take(tokens)
    if said == "is":
        _, said = _take(tokens)
        if said in ("present", "absent"):
            return said
    elif said == "not" and _take(tokens)[1] == "in":
        return "not in"
    elif said in ("==", "!=", "in") or said in _ORDERS:
        return said
    raise ValueError(_WANTED)


def _side(tokens: list[_Token]) -> tuple[Getter | None, Any]:
    """A getter, or ``None`` and a value."""
    kind, said = _take(tokens)
    if kind == "word" and said not in ("true", "false"):
        return _getter(said), None
    if said == "[":
        return None, _list(tokens)
    return None, _value(kind, said)


def _value(kind: str, said: str) -> Any:
    if kind == "text":
        return said[1:-1]
    if kind == "number":
        return float(said) if "." in said else int(said)
    if kind == "word" and said in ("true", "false"):
        return said == "true"
    raise ValueError(_WANTED)


def _list(tokens: list[_Token]) -> tuple[Any, ...]:
    values: list[Any] = []
    while True:
        kind, said = _take(tokens)
        if said == "]" and not values:
            return ()
        values.append(_value(kind, said))
        _, said = _take(tokens)
        if said == "]":
            return tuple(values)
        if said != ",":
            raise ValueError(_WANTED)


def _of_subject(name: str) -> Getter:
    def get(request: AccessRequest, facts: Facts) -> Any:
        if facts and name in facts:
            return facts[name]
        return request.subject.properties.get(name)

    return get


#: What every request has.
_PLAIN: Mapping[str, Getter] = {
    "subject.id": lambda request, facts: request.subject.id,
    "subject.type": lambda request, facts: request.subject.type,
    "resource.id": lambda request, facts: request.resource.id,
    "resource.type": lambda request, facts: request.resource.type,
    "action.name": lambda request, facts: request.action.name,
}
#: What is a mapping.
_MAPPINGS: Mapping[tuple[str, ...], Callable[[str], Getter]] = {
    ("subject", "properties"): _of_subject,
    ("resource", "properties"): lambda name: lambda asked, _: asked.resource.properties.get(name),
    ("action", "properties"): lambda name: lambda asked, _: asked.action.properties.get(name),
    ("context",): lambda name: lambda asked, _: asked.context.get(name),
}


def _getter(word: str) -> Getter:
    if word in _PLAIN:
        return _PLAIN[word]
    root, _, _ = word.partition(".")
    names = [next(filter(None, found)) for found in _NAME.findall(word[len(root) :])]
    for start, getter in _MAPPINGS.items():
        name, *deeper = (root, *names)[len(start) :] or [""]
        if name and (root, *names)[: len(start)] == start:
            return _deep(getter(name), deeper)
    raise ValueError(
        "knows no such reference: there are subject.id, subject.type, resource.id, resource.type, "
        "action.name, context.NAME, and subject, resource or action with .properties.NAME"
    )


def _deep(first: Getter, names: Sequence[str]) -> Getter:
    if not names:
        return first

    def get(request: AccessRequest, facts: Facts) -> Any:
        value = first(request, facts)
        for name in names:
            if not isinstance(value, Mapping):
                return None
            value = value.get(name)
        return value

    return get


def _presence(left: tuple[Getter | None, Any], *, wanted: bool) -> Condition:
    get = left[0]
    if get is None:
        raise ValueError(_WANTED)
    return lambda request, facts: (get(request, facts) is not None) is wanted


def _compared(
    comparison: str,
    left: tuple[Getter | None, Any],
    right: tuple[Getter | None, Any],
    *,
    wary: bool,
) -> Condition:
    ask = _ASKED.get(comparison) or _order(_ORDERS[comparison])
    (get, value), (other_get, other_value) = left, right
    if get is not None and other_get is not None:
        return lambda request, facts: ask(get(request, facts), other_get(request, facts), wary)
    if get is not None:
        if comparison == "==" and isinstance(other_value, str):
            return lambda request, facts: get(request, facts) == other_value
        return lambda request, facts: ask(get(request, facts), other_value, wary)
    if other_get is not None:
        return lambda request, facts: ask(value, other_get(request, facts), wary)
    raise ValueError("compares two values of its own; one of them must be a reference")


def _equal(one: Any, other: Any, wary: bool) -> bool:
    return one is not None and other is not None and same(one, other)


def _different(one: Any, other: Any, wary: bool) -> bool:
    if one is None or other is None:
        return wary
    return not same(one, other)


def _within(one: Any, other: Any, wary: bool) -> bool:
    if one is None or other is None:
        return False
    found = _found(one, other)
    return wary if found is None else found


def _without(one: Any, other: Any, wary: bool) -> bool:
    found = _found(one, other)
    return wary if found is None else not found


def _found(one: Any, other: Any) -> bool | None:
    """``None`` where nobody can know."""
    if one is None:
        return None
    if isinstance(other, _COLLECTIONS):
        return any(same(one, each) for each in other)
    if isinstance(other, Mapping):
        return isinstance(one, str) and one in other
    return None


def _order(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any, bool], bool]:
    def ask(one: Any, other: Any, wary: bool) -> bool:
        if _is_number(one) and _is_number(other):
            return holds(one, other)
        return wary

    return ask


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN


_ASKED: Mapping[str, Callable[[Any, Any, bool], bool]] = {
    "==": _equal,
    "!=": _different,
    "in": _within,
    "not in": _without,
}
