"""How an issuer's parts are: what health tells of them, without asking anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What became of the last question to an introspection endpoint.
Standing = Literal["unasked", "ok", "failing", "rejected"]


@dataclass(frozen=True, slots=True, eq=False)
class KeysCondition:
    """The keys of one issuer at one moment."""

    #: Where they are from.
    origin: Literal["secret", "file", "issuer", "bootstrap"]
    number: int
    #: Seconds since they were last known to be right; ``None`` where that is no question.
    age: float | None
    #: May they verify now?
    usable: bool
    #: Did the last attempt to renew them fail?
    failing: bool
