"""A refusal as an answer: status, headers and body, computed once, the same in every world.

RFC 6750 section 3 for the challenge, RFC 9457 for the body. Nothing of a token, a claim,
an exception or an address gets into it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from bearer_middleware.access.hierarchy import Hierarchy
from bearer_middleware.errors import (
    Forbidden,
    InsufficientAuthentication,
    InsufficientScope,
    MissingToken,
    Refused,
    Unavailable,
)
from bearer_middleware.flow.events import Events
from bearer_middleware.settings.resources import OFFLINE

#: Where a middleware leaves its challenges for the decorators below it.
CHALLENGES = "bearer_middleware.challenges"
_LONGEST_RETRY = 3600
_MOST_ANSWERS = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response as a value. Header names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def reason(self) -> str:
        return HTTPStatus(self.status).phrase


class Challenges:
    """Writes the answers of one configuration. ``scopes`` are what every request needs,
    ``metadata`` is where we are described (RFC 9728 section 5.1), ``hierarchy`` says which
    scopes imply others.
    """

    __slots__ = ("_answers", "_events", "_metadata", "_realm", "_scopes", "hierarchy")

    def __init__(
        self,
        realm: str,
        scopes: tuple[str, ...] = (),
        events: Events | None = None,
        *,
        metadata: str | None = None,
        hierarchy: Hierarchy | None = None,
    ) -> None:
        # RFC 9110 section 11.5: always a quoted-string, with these two characters escaped.
        self._realm = '"' + realm.replace("\\", r"\\").replace('"', r"\"") + '"'
        self._scopes, self._metadata = scopes, metadata
        self.hierarchy = Hierarchy() if hierarchy is None else hierarchy
        self._events = Events() if events is None else events
        self._answers: dict[tuple[object, ...], Answer] = {}

    def answer(self, refusal: Refused) -> Answer:
        """The whole answer to a refused request, computed once for all of its kind."""
        kind = (refusal.status, refusal.code, _particular(refusal))
        answer = self._answers.get(kind)
        if answer is None:
            answer = self._compose(refusal)
            if len(self._answers) < _MOST_ANSWERS:
                self._answers[kind] = answer
        return answer

    def refuse(self, refusal: Refused) -> Answer:
        """The answer to a request that a route refuses, counted and logged like any other."""
        self._events.note_refusal(refusal)
        return self.answer(refusal)

    def _compose(self, refusal: Refused) -> Answer:
        headers = [("content-type", "application/problem+json"), ("cache-control", "no-store")]
        if isinstance(refusal, Unavailable):
            headers.append(("retry-after", str(_whole_seconds(refusal.retry_after))))
        elif not isinstance(refusal, Forbidden):  # no other token would help
            headers.append(("www-authenticate", self._challenge(refusal)))
        status = _status(refusal)
        body = _problem(refusal, status)
        headers.append(("content-length", str(len(body))))
        return Answer(status, tuple(headers), body)

    def _challenge(self, refusal: Refused) -> str:
        parameters = [f"realm={self._realm}"]
        if refusal.code is not None:
            parameters.append(f'error="{refusal.code}"')
        if isinstance(refusal, InsufficientAuthentication):
            parameters.extend(_step_up(refusal))
        scopes = self._wanted(refusal)
        if scopes:
            parameters.append(f'scope="{" ".join(scopes)}"')
        if self._metadata is not None:
            parameters.append(f'resource_metadata="{self._metadata}"')
        return "Bearer " + ", ".join(parameters)

    def _wanted(self, refusal: Refused) -> tuple[str, ...]:
        if isinstance(refusal, InsufficientScope | MissingToken):  # all, in one challenge
            wanted = dict.fromkeys((*self._scopes, *refusal.scopes))
            return tuple(name for name in wanted if name != OFFLINE)
        return ()


def _particular(refusal: Refused) -> object:
    """What makes this refusal's answer differ from others of its status and code."""
    if isinstance(refusal, Unavailable):
        return _whole_seconds(refusal.retry_after)
    if isinstance(refusal, InsufficientAuthentication):
        return refusal.acr_values, refusal.max_age
    if isinstance(refusal, Forbidden):
        return refusal.hidden, refusal.user_reason
    return refusal.scopes if isinstance(refusal, InsufficientScope | MissingToken) else None


def _status(refusal: Refused) -> int:
    return 404 if isinstance(refusal, Forbidden) and refusal.hidden else refusal.status


def _step_up(refusal: InsufficientAuthentication) -> Iterator[str]:
    """RFC 9470 section 3: which authentication would do."""
    if refusal.acr_values:
        yield f'acr_values="{" ".join(refusal.acr_values)}"'
    if refusal.max_age is not None:
        yield f'max_age="{refusal.max_age}"'


def _problem(refusal: Refused, status: int) -> bytes:
    problem: dict[str, object] = {"status": status, "title": HTTPStatus(status).phrase}
    if refusal.code is not None:
        problem["error"] = refusal.code
    if isinstance(refusal, Forbidden) and refusal.user_reason and not refusal.hidden:
        problem["detail"] = refusal.user_reason
    return json.dumps(problem).encode()


def _whole_seconds(seconds: float) -> int:
    return min(max(math.ceil(seconds), 1), _LONGEST_RETRY)
