"""The published bound: how long a revoked token can still be accepted, by the configuration alone.

A revocation is either told to the feed, or known to the authorization server alone; what was
told to the feed holds within its lag while the feed is live. While it is silent, the policy
decides, and under ``serve`` that is the life of the token itself, which is said plainly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bearer_middleware.settings import IssuerSettings, Settings
from bearer_middleware.settings.feeds import kind_of_feed

#: Seconds of silence after which a feed is stale.
STALE_SECONDS = 5.0
#: By then silence is noticed: the longest pause, and the longest look at a feed, come on top.
NOTICED_SECONDS = 10.0
#: Seconds between two questions about one token under ``introspect``.
ASK_AGAIN_SECONDS = 5.0
#: Seconds from the acknowledgement of a revocation until all processes refuse.
_LAG_SECONDS = {"store": 1.0, "file": 2.0, "http": 5.0}

_OWN_LIFE = "its own life"


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """Seconds for which a revoked token is accepted at most; ``None`` is its own life.

    The first two hold for what was told to the feed while it is live, the last two for what
    only the authorization server knows. The two between hold while the feed is silent: under
    ``introspect`` for what that server knows, too.
    """

    jwt_live: float
    opaque_live: float
    jwt_silent: float | None
    opaque_silent: float | None
    jwt_untold: float | None
    opaque_untold: float | None

    def __str__(self) -> str:
        pairs = (
            ("with the feed live", self.jwt_live, self.opaque_live),
            ("with it silent", self.jwt_silent, self.opaque_silent),
            ("if only the authorization server knows", self.jwt_untold, self.opaque_untold),
        )
        return "; ".join(
            f"{when}: a JWT {_words(jwt)}, an opaque token {_words(opaque)}"
            for when, jwt, opaque in pairs
        )

    def as_dict(self) -> dict[str, Any]:
        """Fit for JSON: seconds, or in words that it is the token's own life."""
        return {
            name: _OWN_LIFE if (value := getattr(self, name)) is None else value
            for name in self.__slots__
        }


def bound_of(settings: Settings, lag: float | None = None) -> Bound:
    """The bound of these settings; with several issuers, of the worst of them. ``lag`` is that
    of a feed of one's own, in seconds; without any feed it is nothing, in this one process.
    """
    if settings.revocation_url is not None:
        lag = _LAG_SECONDS[kind_of_feed(settings.revocation_url.reveal())]
    jwt_untold = _worst(_untold(each, is_jwt=True) for each in settings.issuers)
    opaque_untold = _worst(_untold(each, is_jwt=False) for each in settings.issuers)
    if lag is None:
        return Bound(0.0, 0.0, 0.0, 0.0, jwt_untold, opaque_untold)
    jwt, opaque = (
        _worst(_silent(settings, each, is_jwt=is_jwt) for each in settings.issuers)
        for is_jwt in (True, False)
    )
    return Bound(lag, lag, jwt, opaque, jwt_untold, opaque_untold)


def _untold(issuer: IssuerSettings, *, is_jwt: bool) -> float | None:
    """An answer is used for so long; a JWT that nobody is asked about lives on."""
    if is_jwt and issuer.jwt_validation == "local" and issuer.local_validation:
        return None
    return issuer.introspection_ttl + issuer.stale_if_error


def _silent(settings: Settings, issuer: IssuerSettings, *, is_jwt: bool) -> float | None:
    if settings.on_stale_feed == "refuse":
        return NOTICED_SECONDS
    if settings.on_stale_feed == "introspect" and issuer.introspection:
        asked = NOTICED_SECONDS + ASK_AGAIN_SECONDS + issuer.stale_if_error
        return min(asked, _untold(issuer, is_jwt=is_jwt) or asked)
    return None


def _worst(bounds: Iterable[float | None]) -> float | None:
    each = list(bounds)
    return None if None in each else max(bound for bound in each if bound is not None)


def _words(seconds: float | None) -> str:
    return _OWN_LIFE if seconds is None else f"{seconds:g} s"
