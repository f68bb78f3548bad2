"""What a command found out, and how that is told: one line for each finding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TextIO
from urllib.parse import urlsplit

from bearer_middleware.errors import Refused, Unavailable

Level = Literal["ok", "warn", "fail", "skip"]
_LONGEST_ADDRESS = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: a setting, or a rule. ``text`` is in words of ours."""

    level: Level
    name: str
    text: str
    #: What a request would be refused with because of this.
    refusal: Refused | None = None

    def __str__(self) -> str:
        return f"{self.level:4}  {self.name}: {self.text}"


def refused(name: str, refusal: Refused, remark: str = "") -> Finding:
    """The finding of a rule that does not let a token in."""
    words = [refusal.detail or str(refusal.reason), remark]
    text = "; ".join(word for word in words if word)
    if isinstance(refusal, Unavailable):
        text = f"cannot know: {text}"
    return Finding("fail", name, text, refusal)


def failed(findings: Iterable[Finding]) -> bool:
    """Is anything wrong?"""
    return any(finding.level == "fail" for finding in findings)


def tell(lines: Iterable[object], out: TextIO) -> None:
    """Write one line each, in characters that every terminal takes as they are meant."""
    out.writelines("".join(map(_plain, str(line))) + "\n" for line in lines)
    out.flush()


def address(url: str) -> str:
    """A URL as it may be shown: without a query, which may hold a key of somebody's."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:_LONGEST_ADDRESS]


def _plain(character: str) -> str:
    if " " <= character <= "~":
        return character
    return character.encode("unicode_escape").decode("ascii")
