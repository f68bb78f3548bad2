"""What happened, for whoever listens: log records, counters, and one listener of the user's.

Words of ours only: no token, claim, key id or text of an exception gets in here.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bearer_middleware.errors import Reason, Refused, Unavailable
from bearer_middleware.flow.effects import Flow, is_async, lift
from bearer_middleware.flow.instruments import REQUESTS
from bearer_middleware.flow.locks import LazyLock
from bearer_middleware.flow.sampling import Sampling
from bearer_middleware.flow.tally import Tally

_logger = logging.getLogger("bearer_middleware")
_logger.addHandler(logging.NullHandler())
_REFUSALS = frozenset({"refused", "unavailable"})


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth knowing. ``name`` is stable: ``refused`` and ``unavailable`` (with a
    reason), ``keys_refreshed``, ``keys_skipped``, ``keys_failed``, ``metadata_differs``,
    ``introspection_failed``, ``misconfigured``, ``no_audience``, ``stale_served``,
    ``cache_failed``, ``cache_recovered``, ``cache_tampered``, ``shedding``,
    ``breaker_opened``, ``breaker_closed``, ``answer_refreshed``, ``refresh_shed``,
    ``file_renewed``, ``file_unusable``, ``revocation_applied``, ``revocation_bound``,
    ``revocation_feed_stale``, ``revocation_feed_recovered``, ``revocation_tampered``,
    ``revocation_republished``, ``revocation_overflow``, ``logout_rejected``,
    ``logout_failed``, ``signal_applied``, ``signal_ignored``, ``signal_rejected``,
    ``signal_failed``, ``signals_verified``, ``status_list_failed``, ``policy_failed``,
    ``shadow_differed``, ``fail_open``, ``audit_dropped``, ``audit_failed``, ``audit_unsure``,
    ``policy_changed``, ``policy_change_rejected``; ``shed``, ``logout_shed`` and
    ``signals_shed`` are only counted. ``level`` is one of :mod:`logging`.
    """

    name: str
    level: int = logging.INFO
    reason: Reason | None = None
    issuer: str | None = None
    detail: str = ""


class Events:
    """Counts events, logs them and tells the listener. A line that repeats itself is logged
    once a second by ``monotonic``, and says how many there were.
    """

    __slots__ = ("_listener", "_lock", "_sampling", "counts", "tally")

    def __init__(
        self,
        listener: Callable[[Event], Any] | None = None,
        *,
        tally: Tally | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener, self._sampling = listener, Sampling(monotonic)
        #: Where telemetry finds what it shows.
        self.tally = Tally() if tally is None else tally
        self._lock = LazyLock()
        self.counts: Counter[str] = Counter()

    def happened(self, event: Event) -> Flow[None]:
        """Tell of ``event``. A listener that raises is logged and changes nothing."""
        self.note(event)
        if self._listener is None:
            return
        try:
            yield from lift(self._listener, event)
        except Exception as error:  # noqa: BLE001 - a listener must not decide over requests
            _logger.error("the event listener raised %s", type(error).__name__)

    def happened_apart(self, event: Event) -> Flow[None]:
        """The same on a thread of our own, where nobody can wait for an async listener: what
        happens there is then only counted and logged.
        """
        if self._listener is not None and is_async(self._listener):
            self.note(event)
        else:
            yield from self.happened(event)

    def refused(self, refusal: Refused) -> Flow[None]:
        """Tell of a refusal."""
        if self._listener is None:
            self.note_refusal(refusal)
        else:
            self._tell(refusal)
            yield from self.happened(_event_of(refusal))

    def note_refusal(self, refusal: Refused) -> None:
        """Count and log a refusal, where nobody listens or nobody can be waited for. Floods
        come this way, so it is short.
        """
        self._tell(refusal)
        if _logger.isEnabledFor(refusal.level):
            self.note(_event_of(refusal))
        else:
            self.counts[refusal.reason] += 1

    def count(self, name: str) -> None:
        """Count what happens too often, and is too little, to be told of."""
        self.counts[name] += 1

    def note(self, event: Event) -> None:
        """Count and log ``event``."""
        logged, suppressed = _logger.isEnabledFor(event.level), None
        with self._lock:  # a Counter loses one where two threads count something the first time
            self.counts[event.reason or event.name] += 1
            if logged:
                suppressed = self._sampling.passes(_line_of(event))
        if suppressed is not None:
            _log(event, suppressed)

    def _tell(self, refusal: Refused) -> None:
        tally, reason = self.tally, refusal.reason
        outcome = "unavailable" if isinstance(refusal, Unavailable) else "denied"
        # What an extension raised may have any text for its reason.
        word = reason if type(reason) is Reason else Reason.EXTENSION_FAILED
        tally.add(REQUESTS, outcome, word, tally.kind(refusal.kind), tally.issuer(refusal.issuer))


def _log(event: Event, suppressed: int) -> None:
    _logger.log(
        event.level,
        "%s%s%s%s",
        event.name,
        f" ({event.reason})" if event.reason else "",
        f": {event.detail}" if event.detail else "",
        f"; {suppressed} more of these since the last line" if suppressed else "",
        extra={
            "event": event.name,
            "reason": event.reason and str(event.reason),
            "issuer": event.issuer,
            "detail": event.detail,
            "suppressed": suppressed,
        },
    )


def _line_of(event: Event) -> tuple[object, ...]:
    """What makes this the same line as another: of refusals, the reason alone."""
    if event.name in _REFUSALS:
        return event.name, event.reason
    return event.name, event.reason, event.issuer, event.detail, event.level


def _event_of(refusal: Refused) -> Event:
    name = "unavailable" if isinstance(refusal, Unavailable) else "refused"
    return Event(name, refusal.level, refusal.reason, refusal.issuer, refusal.detail)
