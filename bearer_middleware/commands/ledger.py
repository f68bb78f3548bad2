"""The findings about one token, in the order in which its rules were asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from bearer_middleware.commands.findings import Finding, refused
from bearer_middleware.errors import Reason, Refused, Unavailable
from bearer_middleware.flow.effects import Flow

T = TypeVar("T")


def guarded(flow: Flow[T]) -> Flow[T]:
    """A flow of which what nobody expected comes out as a request would be refused for it."""
    try:
        return (yield from flow)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - its text may be of anybody's making
        name = type(error).__name__
    raise Unavailable(Reason.INTERNAL, name)


class Ledger:
    """Asks rules and writes down what they say."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    @property
    def named(self) -> frozenset[str]:
        """The rules that something has been said of."""
        return frozenset(finding.name for finding in self.findings)

    @property
    def broken(self) -> frozenset[str]:
        """The rules that refuse the token."""
        return frozenset(finding.name for finding in self.findings if finding.level == "fail")

    def kept(self, name: str, text: str) -> None:
        self.findings.append(Finding("ok", name, text))

    def refused(self, name: str, refusal: Refused, remark: str = "") -> None:
        self.findings.append(refused(name, refusal, remark))

    def skip(self, names: Iterable[str], why: str) -> None:
        """Rules that are not asked, as far as nothing has been said of them."""
        for name in names:
            if name not in self.named:
                self.findings.append(Finding("skip", name, why))

    def judge(self, name: str, rule: Callable[[], T], said: str, remark: str = "") -> T | None:
        """Ask a rule; its result, or ``None`` where it refuses."""
        try:
            result = rule()
        except Refused as refusal:
            self.refused(name, refusal, remark)
        except Exception as error:  # noqa: BLE001 - a request would be refused for it
            self.refused(name, Unavailable(Reason.INTERNAL, type(error).__name__), remark)
        else:
            if said:
                self.kept(name, said)
            return result
        return None
