"""Our clock against the authorization server's: times in tokens are worth no more than both."""

from __future__ import annotations

from collections.abc import Sequence

from bearer_middleware.commands.findings import Finding, address
from bearer_middleware.commands.witness import Exchange
from bearer_middleware.settings.report import Report


def clocks(exchanges: Sequence[Exchange], leeway: float, place: Report) -> list[Finding]:
    """What the Date headers of these exchanges say."""
    answers = [exchange for exchange in exchanges if exchange.status is not None]
    silent = dict.fromkeys(address(a.url) for a in answers if a.clock_offset is None)
    found = [
        Finding("warn", "clock", f"no Date header from {url}: its clock cannot be compared to ours")
        for url in silent
    ]
    offsets = [a.clock_offset for a in answers if a.clock_offset is not None]
    if offsets:
        found.append(_compared(max(offsets, key=abs), leeway, place.label("leeway")))
    return found


def _compared(offset: float, leeway: float, name: str) -> Finding:
    seconds = abs(offset)
    if not seconds:
        return Finding("ok", "clock", "agrees with the server's")
    relation = "behind" if offset > 0 else "ahead of"
    text = f"this machine's clock is about {seconds:.0f} s {relation} the server's"
    if seconds > leeway:
        advice = f"more than the leeway of {leeway:g} s: set the clock, by NTP for instance"
        return Finding("fail", name, f"{text}, {advice}")
    if seconds > leeway / 2:
        advice = f"over half of the leeway of {leeway:g} s: set the clock, by NTP for instance"
        return Finding("warn", name, f"{text}, {advice}")
    return Finding("ok", "clock", f"{text}, within the leeway of {leeway:g} s")
