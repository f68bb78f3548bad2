"""``explain``: why a token is accepted or refused, rule by rule, and by the middleware itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from bearer_middleware.access.identity import Identity
from bearer_middleware.commands.configuration import configured
from bearer_middleware.commands.findings import Finding, failed, refused, tell
from bearer_middleware.commands.request_walk import request_explained
from bearer_middleware.commands.walk import Walk
from bearer_middleware.errors import Reason, Refused, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.drivers import run
from bearer_middleware.resource_server import ResourceServer

Verdict = Identity | Refused | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A line for each rule, and what comes of it all."""

    findings: Sequence[Finding]
    verdict: str
    accepted: bool
    #: What the middleware came to, where that can be relied on.
    heard: tuple[Verdict, ...] = ()


def explain(
    environ: Mapping[str, str],
    authorization: bytes,
    out: TextIO,
    *,
    config_file: str | None = None,
    transport: Any = None,
    request: tuple[str, str] | None = None,
) -> int:
    """Explain an Authorization header; 0 if its token is accepted. With a ``request``, method and
    path, what becomes of that is explained besides; 0 if it goes on to the application.
    """
    server, found = configured(environ, config_file, transport)
    tell(found, out)
    if server is None or failed(found):
        tell(["cannot know: the settings are wrong"], out)
        return 1
    # A server of its own, so that nothing learned on the walk can change the second opinion.
    fresh = ResourceServer(server.settings, transport=transport)
    explanation = explained(server, fresh, authorization)
    tell([*explanation.findings, explanation.verdict], out)
    accepted = explanation.accepted
    if request is not None and explanation.heard:
        outcome = request_explained(fresh, explanation.heard[0], *request)
        tell([*outcome.findings, outcome.answer], out)
        accepted = outcome.accepted
    server.close()
    fresh.close()
    return 0 if accepted else 1


def explained(
    server: ResourceServer, judge: ResourceServer, authorization: bytes, clock: Clock | None = None
) -> Explanation:
    """Walk through the rules of ``server``, and hear the verdict of ``judge`` upon it all."""
    clock = clock or Clock()
    verdict = verdict_of(judge, authorization)
    asks_again = judge.feed is not None and judge.feed.asks_again
    deadline = clock.monotonic() + server.settings.http_timeout
    walk = Walk(server, deadline, clock, asks_again=asks_again)
    found = run(walk.flow(authorization), server.transport)
    if isinstance(verdict, Refused) and verdict.reason is Reason.REVOKED:
        found = [*found, refused("revocation", verdict)]  # what is revoked is no rule of a token
    if isinstance(verdict, Refused) and verdict.reason is Reason.REVOCATION_STALE:
        found = [refused("revocation", verdict), *found]  # asked before all that a token says
    first = next((finding for finding in found if finding.refusal is not None), None)
    ours = None if first is None else first.refusal
    if _words(ours) != _words(verdict):
        text = f"by the rules {_words(ours)}, by the middleware itself {_words(verdict)}"
        found = [*found, Finding("fail", "middleware", text)]
        return Explanation(found, "the two verdicts differ; trust the middleware's", False)
    found = [*found, Finding("ok", "middleware", "comes to the same verdict by itself")]
    accepted = not isinstance(verdict, Refused)
    return Explanation(found, conclusion(verdict, first), accepted, (verdict,))


def verdict_of(judge: ResourceServer, authorization: bytes) -> Verdict:
    """What becomes of a request with this header."""
    try:
        return run(judge.authenticate([authorization]), judge.transport)
    except Refused as refusal:
        return refusal


def conclusion(verdict: Verdict, first: Finding | None) -> str:
    """The last line: the verdict and, for a refusal, the first rule that refuses."""
    if isinstance(verdict, Refused):
        return f"{_words(verdict)} ({'middleware' if first is None else first.name})"
    if verdict is None:
        return "accepted: anonymous"
    subject = "absent" if verdict.subject is None else "present"
    who = ", a client for itself" if verdict.is_client else ""
    return f"accepted: kind={verdict.kind}, subject {subject}{who}, scopes: {len(verdict.scopes)}"


def _words(verdict: Verdict) -> str:
    if isinstance(verdict, Unavailable):
        return f"cannot know: {verdict.reason}"
    return f"refused: {verdict.reason}" if isinstance(verdict, Refused) else "accepted"
