"""The road to a decision point over HTTP, the same for all of them.

A question is one POST of JSON, within a deadline, over breaker and bulkhead. What comes back is
believed only if it is a whole, strict JSON object. Everything else is a ``TransportError`` with a
word of ours, and a decision that is indeterminate: an answer of 401 or 500 decides nothing
(AuthZEN section 10.1.2), and no text of the decision point goes anywhere from here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from bearer_middleware.errors import ConfigError, TransportError
from bearer_middleware.flow.effects import Flow, HttpRequest, HttpResponse, lift
from bearer_middleware.flow.events import Event
from bearer_middleware.issuer.upstream import Shed, Upstream
from bearer_middleware.policy.model import Decision, Effect, indeterminate
from bearer_middleware.policy.point import Surroundings
from bearer_middleware.policy.wire import encode
from bearer_middleware.settings import Secret, Settings
from bearer_middleware.tokens.text import parse_object

#: Bytes of an answer about one request, and of the longest about many.
MAX_ANSWER, MAX_ANSWERS = 65_536, 1_048_576
_JSON = "application/json"
_LONGEST_BREAK = 10.0

#: Our credentials: a text, or whatever gives one: a plain function, an ``async`` one or a flow.
Token = str | Secret | Callable[[], Any] | None


def word_of(failure: TransportError) -> str:
    """The word for a failure, for logs and audit."""
    return "shed" if isinstance(failure, Shed) else failure.detail.replace(" ", "_")


def limit_for(questions: int) -> int:
    """How many bytes the answer to so many questions may have."""
    return min(MAX_ANSWER * questions, MAX_ANSWERS)


class Remote:
    """Asks one decision point, called ``name``. ``timeout`` is what a question may take, in
    seconds, whatever else its caller allows.
    """

    def __init__(
        self, name: str, *, token: Token, timeout: float, surroundings: Surroundings | None
    ) -> None:
        self.name, self._timeout = name, timeout
        self._around = Surroundings() if surroundings is None else surroundings
        self._token = Secret(token) if isinstance(token, str) else token
        if isinstance(self._token, Secret) and not _fits_a_header(self._token.reveal()):
            raise ConfigError("BEARER_POLICY_TOKEN: must be printable ASCII, without spaces")
        self._numbers_differ = False
        #: What stands between us and the decision point, for health and metrics.
        self.upstream = self.another_upstream("policy")

    def another_upstream(self, name: str) -> Upstream:
        """A further endpoint, with a breaker of its own."""
        around = self._around
        return Upstream(
            name,
            issuer=None,
            timeout=self._timeout,
            clock=around.clock,
            events=around.events,
            longest=_LONGEST_BREAK,
        )

    @property
    def extensions(self) -> tuple[Callable[..., Any], ...]:
        """The functions of the user's that are called on the way."""
        return (self._token,) if callable(self._token) else ()

    @property
    def surroundings(self) -> Surroundings:
        """The clock, the events and the trust of the server this works for."""
        return self._around

    @property
    def timeout(self) -> float:
        """Seconds that a question may take."""
        return self._timeout

    def deadline(self, deadline: float) -> float:
        """The earlier of the caller's and ours, in monotonic seconds."""
        return min(deadline, self._around.clock.monotonic() + self._timeout)

    def ask(
        self,
        url: str,
        question: object,
        deadline: float,
        *,
        limit: int = MAX_ANSWER,
        fresh: bool = False,
    ) -> Flow[dict[str, Any]]:
        """The answer to one question; ``bytes`` are JSON already. Raises ``TransportError``, and
        ``Unsendable`` where the question cannot be put into JSON.
        """
        body = question if isinstance(question, bytes) else encode(question)
        number = os.urandom(16).hex()
        headers = {"Content-Type": _JSON, "X-Request-ID": number}
        if fresh:
            headers["Cache-Control"] = "no-cache"
        response = yield from self._exchange(
            self.upstream, "POST", url, headers, body=body, deadline=deadline, limit=limit
        )
        if response.headers.get("x-request-id", number) != number:
            yield from self._told_another_number()
        return _object_in(response)

    def _told_another_number(self) -> Flow[None]:
        """AuthZEN section 10.1.3 wants ours back. Real ones have their own: said once."""
        if self._numbers_differ:
            self._around.events.count("policy_request_id")
            return
        self._numbers_differ = True
        yield from self._tell("policy_request_id", logging.INFO, "answers under another id")

    def document(self, url: str, upstream: Upstream, deadline: float) -> Flow[dict[str, Any]]:
        """A document about the decision point. Raises ``TransportError``."""
        response = yield from self._exchange(
            upstream, "GET", url, {}, body=None, deadline=deadline, limit=MAX_ANSWER
        )
        return _object_in(response)

    def _exchange(
        self,
        upstream: Upstream,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: bytes | None,
        deadline: float,
        limit: int,
    ) -> Flow[HttpResponse]:
        headers = {"Accept": _JSON, **headers, **(yield from self._credentials(deadline))}
        seconds = deadline - self._around.clock.monotonic()
        if seconds <= 0:
            raise TransportError("timeout")
        request = HttpRequest(
            method, url, headers, body, timeout=seconds, limit=limit, tls=self._around.tls
        )
        response = yield from upstream.exchange(request)
        if response.status != 200:
            if response.status in (401, 403):
                detail = f"refuses us: status {response.status}; see BEARER_POLICY_TOKEN"
                yield from self._tell("policy_failed", logging.ERROR, detail)
            raise TransportError(f"status {response.status}")
        return response

    def _credentials(self, deadline: float) -> Flow[dict[str, str]]:
        token, within = self._token, deadline - self._around.clock.monotonic()
        if token is None:
            return {}
        try:
            told = token if isinstance(token, Secret) else (yield from lift(token, within=within))
        except TimeoutError:
            raise TransportError("timeout") from None
        except Exception:  # noqa: BLE001 - it is the user's, and its text may hold the token
            told = None
        text = told.reveal() if isinstance(told, Secret) else told
        if not isinstance(text, str) or not _fits_a_header(text):
            raise TransportError("no credentials")
        return {"Authorization": f"Bearer {text}"}

    def note(self, name: str, level: int, detail: str) -> Flow[None]:
        """Tell whoever listens. ``detail`` is words of ours."""
        return self._tell(name, level, detail)

    def _tell(self, name: str, level: int, detail: str) -> Flow[None]:
        return self._around.events.happened(Event(name, level, detail=f"{self.name} {detail}"))

    def undecided(self, failure: TransportError) -> Decision:
        """The decision where there is no answer that counts."""
        return indeterminate(word_of(failure), point=self.name, retry_after=self.retry_after)

    @property
    def retry_after(self) -> float:
        """Seconds after which it makes sense to ask again."""
        return max(self.upstream.wait, 1.0)

    def denied(self, reason: str) -> Decision:
        """A denial of our own, for a word of ours. It cannot be let through by mistake, as what is
        indeterminate may be by a rule: whoever asks could bring it about.
        """
        return Decision(effect=Effect.DENY, reasons=(reason,), point=self.name)


class Remotely:
    """Of a decision point that is asked through a :class:`Remote`."""

    _remote: Remote

    @property
    def name(self) -> str:
        return self._remote.name

    @property
    def extensions(self) -> tuple[Callable[..., Any], ...]:
        """Functions of the user's, which may need an event loop."""
        return self._remote.extensions

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """What stands between us and it, for health and metrics."""
        return (self._remote.upstream,)


def reach(settings: Settings, surroundings: Surroundings) -> dict[str, Any]:
    """The keywords that every decision point over the network takes from the settings."""
    return {
        "token": settings.policy_token,
        "timeout": settings.policy_timeout,
        "surroundings": surroundings,
        "allow_insecure_http": settings.allow_insecure_http,
    }


def _object_in(response: HttpResponse) -> dict[str, Any]:
    headers = response.headers
    if headers.get("content-encoding", "identity") != "identity":
        raise TransportError("compressed")
    if "json" not in headers.get("content-type", "json").lower():
        raise TransportError("not json")
    try:
        return parse_object(response.body)
    except ValueError:
        pass
    raise TransportError("not json")


def _fits_a_header(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text
