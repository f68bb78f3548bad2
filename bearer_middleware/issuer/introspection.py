"""Asking the authorization server about a token (RFC 7662, signed answers RFC 9701).

This asks and reads; whether the answer lets the token in is for the rules to say, now and
again whenever the answer is remembered.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bearer_middleware.errors import InvalidToken, Reason, Spared, TransportError, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, HttpRequest, HttpResponse, Tls
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.issuer.condition import Standing
from bearer_middleware.issuer.credentials import ClientCredentials
from bearer_middleware.issuer.upstream import Admit, Shed, Upstream
from bearer_middleware.tokens.text import parse_object

MAX_ANSWER_BYTES = 65_536
_JSON = "application/json"
_SIGNED = "application/token-introspection+jwt"
# Words of RFC 6749 section 5.2 and RFC 7009 section 2.2.1, and no others: a server might echo.
_CODES = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_client_metadata",
        "invalid_grant",
        "invalid_token",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_token_type",
        "access_denied",
        "server_error",
        "temporarily_unavailable",
    }
)

#: Reads the signed answer of a server: claims of a JWT that was verified.
AnswerReader = Callable[[bytes, float], Flow[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Answer:
    """An answer that says ``active: true``, and the text it was read from."""

    claims: dict[str, Any]
    payload: bytes


class Introspection:
    """The introspection endpoint of one issuer."""

    def __init__(
        self,
        endpoint: Callable[[float], Flow[str]],
        credentials: ClientCredentials,
        *,
        upstream: Upstream,
        issuer: str | None,
        clock: Clock,
        events: Events,
        tls: Tls,
        read_signed: AnswerReader | None,
    ) -> None:
        self._endpoint, self._credentials = endpoint, credentials
        self._issuer, self._clock, self._events = issuer, clock, events
        self._tls, self._read_signed = tls, read_signed
        #: What stands between us and the endpoint, for health.
        self.upstream = upstream
        #: What became of the last question.
        self.standing: Standing = "unasked"

    @property
    def troubled(self) -> bool:
        """Is a file of our credentials unusable, and its old content serving?"""
        return self._credentials.troubled

    def ask(self, token: bytes, deadline: float, admit: Admit | None = None) -> Flow[Answer]:
        """What the server says of ``token``. Raises ``InvalidToken`` only where it says
        ``active: false``; ``Unavailable`` where it does not say anything we can believe, and
        what ``admit`` raises (see ``Upstream.exchange_late``).
        """
        try:
            self.upstream.refuse_if_open()
            endpoint = yield from self._found(deadline)
            response = yield from self._exchange(endpoint, token, deadline, admit)
            answer = yield from self._read(response, deadline)
        except TransportError as failure:
            detail, shed = failure.detail, isinstance(failure, Shed)
        else:
            self.standing = "ok"
            if answer.claims["active"] is False:
                raise InvalidToken(Reason.INACTIVE, "active is false", issuer=self._issuer)
            return answer
        if shed:  # counted where it happened: there are too many of them to be told of
            raise Spared(
                Reason.INTROSPECTION_UNAVAILABLE,
                detail,
                issuer=self._issuer,
                retry_after=max(self.upstream.wait, 1.0),
            )
        raise (yield from self._failed(Reason.INTROSPECTION_UNAVAILABLE, detail, logging.WARNING))

    def _found(self, deadline: float) -> Flow[str]:
        try:
            return (yield from self._endpoint(deadline))
        except Unavailable:
            self.standing = "failing"
            raise

    def _exchange(
        self, endpoint: str, token: bytes, deadline: float, admit: Admit | None
    ) -> Flow[HttpResponse]:
        def exchange() -> Flow[HttpResponse]:
            return self.upstream.exchange_late(
                lambda: self._request(endpoint, token, deadline),
                deadline - self._clock.monotonic(),
                admit,
            )

        version = yield from self._credentials.refresh()
        response = yield from exchange()
        if response.status == 401:  # they may have been replaced since
            newer = yield from self._credentials.refresh(refused=True)
            if newer != version:
                response = yield from exchange()
        return response

    def _request(self, endpoint: str, token: bytes, deadline: float) -> HttpRequest:
        headers, fields = self._credentials.prove(endpoint)
        form = {"token": token.decode("ascii"), "token_type_hint": "access_token", **fields}
        return HttpRequest(
            "POST",
            endpoint,
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": _JSON if self._read_signed is None else _SIGNED,
                **headers,
            },
            urlencode(form).encode(),
            timeout=deadline - self._clock.monotonic(),
            limit=MAX_ANSWER_BYTES,
            tls=self._tls,
        )

    def _read(self, response: HttpResponse, deadline: float) -> Flow[Answer]:
        if response.status in (401, 403):  # RFC 7662 section 2.3: it is us who are refused
            raise (
                yield from self._failed(
                    Reason.MISCONFIGURED,
                    f"our credentials were refused with status {response.status}"
                    + _error_code(response.body),
                    logging.ERROR,
                )
            )
        if response.status != 200:
            raise TransportError(f"status {response.status}{_error_code(response.body)}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise TransportError("compressed although identity was asked for")
        answer = yield from self._parse(response, deadline)
        # Nothing but JSON true and false is an answer: "true" or 1 would be a guess.
        if not isinstance(answer.claims.get("active"), bool):
            raise TransportError("active is not a boolean")
        return answer

    def _parse(self, response: HttpResponse, deadline: float) -> Flow[Answer]:
        if self._read_signed is None:
            try:
                return Answer(parse_object(response.body), response.body)
            except ValueError:
                raise TransportError("not a JSON object") from None
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != _SIGNED:
            raise TransportError("the answer is not signed")
        claims = yield from self._read_signed(response.body, deadline)
        answer = claims.get("token_introspection")
        if not isinstance(answer, dict):
            raise TransportError("no token_introspection in the signed answer")
        return Answer(answer, json.dumps(answer, separators=(",", ":")).encode())

    def _failed(self, reason: Reason, detail: str, level: int) -> Flow[Unavailable]:
        rejected = reason is Reason.MISCONFIGURED
        self.standing = "rejected" if rejected else "failing"
        name = "misconfigured" if rejected else "introspection_failed"
        yield from self._events.happened(Event(name, level, reason, self._issuer, detail))
        return self._unavailable(reason, detail)

    def _unavailable(self, reason: Reason, detail: str) -> Unavailable:
        wait = max(self.upstream.wait, 1.0)
        return Unavailable(reason, detail, issuer=self._issuer, retry_after=wait)


def _error_code(body: bytes) -> str:
    """The server's own word for what is wrong, if it is a known one."""
    try:
        code = parse_object(body).get("error")
    except ValueError:
        return ""
    return f" {code}" if isinstance(code, str) and code in _CODES else ""
