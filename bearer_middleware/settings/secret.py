"""A text that must not be seen."""

from __future__ import annotations

import hmac
from typing import Any, NoReturn, Self


class Secret:
    """A secret text: shows itself to nobody who does not ask for it by :meth:`reveal`.

    Deliberately no dataclass: ``dataclasses.asdict`` of the settings would unfold it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "<redacted>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_octets(self._text), _octets(other._text))

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
