"""What went wrong in an exchange, and how to mend it, in words for the operator."""

from __future__ import annotations

from bearer_middleware.commands.findings import address
from bearer_middleware.commands.witness import Exchange
from bearer_middleware.settings import grammar
from bearer_middleware.settings.parsing import Unreadable
from bearer_middleware.settings.report import Report
from bearer_middleware.tokens.text import parse_object

# By how the word for the failure begins; {0} is the word itself.
_ADVICE = (
    (
        "connect",
        "cannot be reached: is the address right, the server up, is there a firewall or a proxy? "
        "A certificate of your own authority needs {ca_file}",
    ),
    (
        "timeout",
        "gives no whole answer in time: is it overloaded, or {http_timeout} too short for it?",
    ),
    ("cooling down", "does not answer as it should"),
    ("too_large", "sends more than any such answer has: is the address right?"),
    ("status 3", "redirects ({0}), which is never followed: configure where it leads to"),
    ("status 404", "is not there ({0}): is the address right, its path and trailing slash too?"),
    ("status 429", "asks for patience ({0}): wait, or let it allow this API more requests"),
    ("status 5", "is in trouble ({0}): look at the server"),
    ("status", "refuses to answer ({0}): is the address right?"),
    ("protocol", "breaks the connection off, or does not speak HTTP: is the address right?"),
    ("failed", "could not be asked: is the address a proper URL?"),
    ("compressed", "compresses its answer although that was refused: mend it, or what is between"),
    (
        "the answer is not signed",
        "does not sign its answers: let it, or leave out {introspection_signed}",
    ),
    ("", "answers with something else than it should ({0}): is the address right?"),
)


def advice(detail: str, place: Report) -> str:
    """How to mend what ended an exchange with this word."""
    text = next(text for word, text in _ADVICE if detail.startswith(word))
    names = {name: place.name(name) for name in ("ca_file", "introspection_signed")}
    return text.format(detail, http_timeout=Report().name("http_timeout"), **names)


def outcome(exchange: Exchange, issuer: str) -> str:
    """What came of one request for metadata."""
    return f"{address(exchange.url)}: {_outcome(exchange, issuer)}"


def _outcome(exchange: Exchange, issuer: str) -> str:
    if exchange.failure is not None:
        return exchange.failure
    if exchange.status != 200:
        return f"status {exchange.status}"
    try:
        named = parse_object(exchange.body).get("issuer")
    except ValueError:
        return "not a JSON object"
    if named == issuer:
        return "the metadata of this issuer"
    return f"the metadata of another issuer{_as_issuer(named)}"


def other_issuer(exchanges: list[Exchange], issuer: str) -> bool:
    """Is there metadata, but under another name?"""
    return any("of another issuer" in _outcome(exchange, issuer) for exchange in exchanges)


def _as_issuer(named: object) -> str:
    """The other name, if it could be configured: else it is nothing to show to anybody."""
    try:
        return f", {grammar.issuer(named)[:200]}"
    except Unreadable:
        return ""
