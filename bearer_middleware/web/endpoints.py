"""What the middleware answers itself, without a token and without the application.

Only requests that are exempt are looked up here, so the others do not pay for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from bearer_middleware.errors import ConfigError, RevocationError, Unavailable
from bearer_middleware.flow.effects import Flow
from bearer_middleware.flow.events import Event
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.revocation.incoming import Busy, Rejected
from bearer_middleware.revocation.logout import MAX_FORM_BYTES
from bearer_middleware.web.challenge import Answer

if TYPE_CHECKING:
    from bearer_middleware.revocation.signals import SignalReceiver

_READING = ("GET", "HEAD")
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """One path: the methods it knows, the bytes of a body it looks at, and how it answers.

    ``answer`` is called with the media type and the body of a request.
    """

    methods: tuple[str, ...]
    limit: int
    answer: Callable[[str, bytes], Flow[Answer]]
    #: The answer to who may not ask, by the Authorization headers; before any body is read.
    turns_away: Callable[[Sequence[bytes]], Answer | None] = lambda _: None

    def not_allowed(self) -> Answer:
        """The answer to any other method (RFC 9110 section 15.5.6)."""
        return _problem(405, ("allow", ", ".join(self.methods)))


def endpoints_for(server: ResourceServer) -> Mapping[str, Endpoint]:
    """By path, what this server's settings ask for."""
    settings, endpoints = server.settings, {}
    if settings.health_path is not None:
        endpoints[settings.health_path] = Endpoint(_READING, 0, lambda *_: _health(server))
    if settings.logout_path is not None:
        endpoints[settings.logout_path] = Endpoint(
            ("POST",), MAX_FORM_BYTES, lambda media_type, body: _logout(server, media_type, body)
        )
    if settings.resource is not None:
        from bearer_middleware.settings.resources import metadata_path
        from bearer_middleware.web.resource_metadata import metadata_answer

        described = metadata_answer(settings)
        endpoints[metadata_path(settings.resource)] = Endpoint(
            (*_READING, "OPTIONS"), 0, lambda *_: _known(described)
        )
    signals = server.receivers.signals
    if settings.signals_path is not None and signals is not None:
        from bearer_middleware.revocation.signals import MAX_SET_BYTES

        endpoints[settings.signals_path] = Endpoint(
            ("POST",),
            MAX_SET_BYTES,
            lambda media_type, body: _signals(server, signals, media_type, body),
        )
    if settings.policy_changed_path is not None:
        endpoints[settings.policy_changed_path] = _policy_changes(server)
    return endpoints


def _policy_changes(server: ResourceServer) -> Endpoint:
    from bearer_middleware.web.policy_changes import MAX_CHANGE_BYTES, PolicyChanges

    settings, changed = server.settings, server.policy_changed
    if server.authorizer is None or settings.policy_changed_token is None:
        raise ConfigError("BEARER_POLICY_CHANGED_PATH: there is nothing that could be told of it")
    changes = PolicyChanges(changed, settings.policy_changed_token, settings.realm, server.events)

    def answer(media_type: str, body: bytes) -> Flow[Answer]:
        status = yield from changes.receive(media_type, body)
        if status == 202:
            return _answer(202, "text/plain", b"")
        return _problem(status, *([("retry-after", "5")] if status == 503 else []))

    return Endpoint(("POST",), MAX_CHANGE_BYTES, answer, changes.turns_away)


def _known(answer: Answer) -> Flow[Answer]:
    yield from ()
    return answer


def _health(server: ResourceServer) -> Flow[Answer]:
    """200 while requests should come here, else 503. Nobody is waited for."""
    yield from server.wake()
    health = server.health()
    body = json.dumps(health.as_dict()).encode()
    return _answer(200 if health.ready else 503, "application/json", body)


def _logout(server: ResourceServer, media_type: str, body: bytes) -> Flow[Answer]:
    """Back-Channel Logout 1.0 section 2.8: 200 where it was done, 400 where it was no logout.
    Where we cannot say, or not everywhere, 503: the server may try again.
    """
    try:
        if media_type.partition(";")[0].strip().lower() != _FORM:
            raise Rejected("not a form")
        yield from server.receivers.logouts.receive(body, server.deadline())
    except Rejected as rejected:
        yield from _tell(server, "logout_rejected", str(rejected))
        return _problem(400)
    except Busy:
        return _shed(server, "logout_shed")
    except (RevocationError, Unavailable) as failure:
        return (yield from _failed(server, "logout_failed", failure))
    return _answer(200, "text/plain", b"")


def _signals(
    server: ResourceServer, signals: SignalReceiver, media_type: str, body: bytes
) -> Flow[Answer]:
    """RFC 8935 sections 2.2 to 2.4: 202 where it was done, 400 with a code where it was no event
    token for us. Where we cannot say, or not everywhere, 503: the transmitter tries again.
    """
    try:
        yield from signals.receive(media_type, body, server.deadline())
    except Rejected as rejected:
        yield from _tell(server, "signal_rejected", f"{rejected.code}: {rejected}")
        told = json.dumps({"err": rejected.code, "description": str(rejected)}).encode()
        return _answer(400, "application/json", told, ("content-language", "en"))
    except Busy:
        return _shed(server, "signals_shed")
    except (RevocationError, Unavailable) as failure:
        return (yield from _failed(server, "signal_failed", failure))
    return _answer(202, "text/plain", b"")


def _shed(server: ResourceServer, name: str) -> Answer:
    server.events.count(name)
    return _problem(503, ("retry-after", "1"))


def _failed(
    server: ResourceServer, name: str, failure: RevocationError | Unavailable
) -> Flow[Answer]:
    detail = failure.detail if isinstance(failure, Unavailable) else str(failure)
    yield from _tell(server, name, detail)
    return _problem(503, ("retry-after", "5"))


def _tell(server: ResourceServer, name: str, detail: str) -> Flow[None]:
    return server.events.happened(Event(name, logging.WARNING, detail=detail))


def _problem(status: int, *headers: tuple[str, str]) -> Answer:
    body = json.dumps({"status": status, "title": HTTPStatus(status).phrase}).encode()
    return _answer(status, "application/problem+json", body, *headers)


def _answer(status: int, media_type: str, body: bytes, *headers: tuple[str, str]) -> Answer:
    # An empty body has a type as well, or PEP 3333's validator takes the answer for a mistake.
    usual = (("content-type", media_type), ("cache-control", "no-store"))
    return Answer(status, (*usual, *headers, ("content-length", str(len(body)))), body)
