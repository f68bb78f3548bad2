"""Every error of this package, with the answer it deserves.

    BearerError
    |-- ConfigError               the settings are wrong; lists every mistake
    |-- TransportError            an exchange with another server did not succeed
    |-- RevocationError           a revocation would not hold everywhere
    `-- Refused                   a request is not let through: status, code, reason
        |-- MissingToken      401
        |-- InvalidRequest    400  invalid_request
        |-- InvalidToken      401  invalid_token
        |-- InsufficientScope 403  insufficient_scope
        |-- InsufficientAuthentication  401  insufficient_user_authentication
        |-- Forbidden         403  (404 where that shall be hidden)
        `-- Unavailable       503  (we cannot know; Retry-After)
            `-- RateLimited        (nor may ask just now)

The status belongs to the error object, so no adapter has to remember it. ``reason`` is
for logs, events and tests; the caller never sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import ClassVar, Literal, Self


class Reason(StrEnum):
    """Why a request was refused: a closed list with stable values."""

    MISSING = "missing"
    MALFORMED_HEADER = "malformed_header"
    MULTIPLE_CREDENTIALS = "multiple_credentials"
    TOO_LONG = "too_long"
    MALFORMED_TOKEN = "malformed_token"
    ENCRYPTED_TOKEN = "encrypted_token"
    UNSUPPORTED_TOKEN = "unsupported_token"
    UNSUPPORTED_HEADER = "unsupported_header"
    UNSUPPORTED_ALG = "unsupported_alg"
    UNKNOWN_ISSUER = "unknown_issuer"
    UNKNOWN_KID = "unknown_kid"
    BAD_SIGNATURE = "bad_signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_TYPE = "wrong_type"
    MISSING_CLAIM = "missing_claim"
    MALFORMED_CLAIM = "malformed_claim"
    BOUND_TOKEN = "bound_token"
    NOT_ACCESS_TOKEN = "not_access_token"
    INACTIVE = "inactive"
    REVOKED = "revoked"
    LIVES_TOO_LONG = "lives_too_long"
    UNSUPPORTED_STATUS = "unsupported_status"
    INVALID_STATUS = "invalid_status"
    SUBJECT_MISMATCH = "subject_mismatch"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    INSUFFICIENT_AUTHENTICATION = "insufficient_user_authentication"
    FORBIDDEN = "forbidden"
    NO_ROUTE = "no_route"
    UNKNOWN_OBLIGATION = "unknown_obligation"
    RATE_LIMITED = "rate_limited"
    METADATA_UNAVAILABLE = "metadata_unavailable"
    JWKS_UNAVAILABLE = "jwks_unavailable"
    INTROSPECTION_UNAVAILABLE = "introspection_unavailable"
    REVOCATION_STALE = "revocation_stale"
    STATUS_UNAVAILABLE = "status_unavailable"
    POLICY_UNAVAILABLE = "policy_unavailable"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    MISCONFIGURED = "misconfigured"
    EXTENSION_FAILED = "extension_failed"
    INTERNAL = "internal"

    __hash__ = str.__hash__  # that of an Enum is written in Python


class BearerError(Exception):
    """Anything this package raises on purpose."""


class ConfigError(BearerError, ValueError):
    """The configuration is wrong. ``mistakes`` lists all that was found, never a secret."""

    def __init__(self, mistakes: str | Iterable[str]) -> None:
        self.mistakes: tuple[str, ...] = (
            (mistakes,) if isinstance(mistakes, str) else tuple(mistakes)
        )
        super().__init__("\n".join(self.mistakes))


class TransportError(BearerError):
    """An HTTP exchange failed before a whole answer was there.

    ``detail`` is a short word of ours (``"timeout"``, ``"connect"``, ``"too_large"`` ...),
    never text of the library below: that may hold the token.
    """

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class RevocationError(BearerError):
    """A revocation could not be made to hold everywhere, so it must not be taken for done."""


class Refused(BearerError):
    """The request is not let through."""

    status: ClassVar[int] = 401
    code: ClassVar[str | None] = None
    #: Of :mod:`logging`.
    level: ClassVar[int] = logging.INFO
    #: Of the token, where that was seen: ``jwt`` or ``opaque``.
    kind: Literal["", "jwt", "opaque"] = ""

    def __init__(self, reason: Reason, detail: str = "", *, issuer: str | None = None) -> None:
        self.reason = reason
        #: For logs and ``explain``; words of ours only. Never sent to the caller.
        self.detail = detail
        #: The configured issuer concerned, where one is known.
        self.issuer = issuer

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)

    def again(self) -> Self:
        """A fresh copy: one exception object must not be raised by several callers at once."""
        return type(self)(self.reason, self.detail, issuer=self.issuer)


class MissingToken(Refused):
    """The request lacks any authentication information (RFC 6750 section 3.1): no error code.
    ``scopes`` are what the resource needs besides those of every request.
    """

    def __init__(
        self,
        reason: Reason = Reason.MISSING,
        detail: str = "",
        *,
        issuer: str | None = None,
        scopes: Sequence[str] = (),
    ) -> None:
        self.scopes = tuple(scopes)
        super().__init__(reason, detail, issuer=issuer)

    def again(self) -> Self:
        return type(self)(self.reason, self.detail, issuer=self.issuer, scopes=self.scopes)


class InvalidRequest(Refused):
    """The request is malformed, repeats a parameter or uses more than one method for
    including an access token (RFC 6750 section 3.1).
    """

    status = 400
    code = "invalid_request"


class InvalidToken(Refused):
    """The access token provided is expired, revoked, malformed, or invalid for other
    reasons (RFC 6750 section 3.1).
    """

    code = "invalid_token"


class InsufficientScope(Refused):
    """The request requires higher privileges than provided by the access token (RFC 6750
    section 3.1). ``scopes`` are all that the resource needs.
    """

    status = 403
    code = "insufficient_scope"

    def __init__(
        self,
        scopes: Sequence[str],
        reason: Reason = Reason.INSUFFICIENT_SCOPE,
        detail: str = "",
        *,
        issuer: str | None = None,
    ) -> None:
        self.scopes = tuple(scopes)
        super().__init__(reason, detail, issuer=issuer)

    def again(self) -> Self:
        return type(self)(self.scopes, self.reason, self.detail, issuer=self.issuer)


class InsufficientAuthentication(Refused):
    """The authentication event associated with the access token presented with the request does
    not meet the authentication requirements of the protected resource (RFC 9470 section 3).
    ``max_age`` is in seconds; ``acr_values`` are in order of preference.
    """

    code = "insufficient_user_authentication"

    def __init__(
        self,
        acr_values: Sequence[str] = (),
        max_age: int | None = None,
        reason: Reason = Reason.INSUFFICIENT_AUTHENTICATION,
        detail: str = "",
        *,
        issuer: str | None = None,
    ) -> None:
        self.acr_values, self.max_age = tuple(acr_values), max_age
        super().__init__(reason, detail, issuer=issuer)

    def again(self) -> Self:
        return type(self)(
            self.acr_values, self.max_age, self.reason, self.detail, issuer=self.issuer
        )


class Forbidden(Refused):
    """The policy says no (RFC 9110 section 15.5.4). ``user_reason`` is what the caller may be
    told of why; with ``hidden`` the resource seems not to exist at all (section 15.5.5).
    """

    status = 403

    def __init__(
        self,
        reason: Reason = Reason.FORBIDDEN,
        detail: str = "",
        *,
        issuer: str | None = None,
        user_reason: str | None = None,
        hidden: bool = False,
    ) -> None:
        self.user_reason, self.hidden = user_reason, hidden
        super().__init__(reason, detail, issuer=issuer)

    def again(self) -> Self:
        return type(self)(
            self.reason,
            self.detail,
            issuer=self.issuer,
            user_reason=self.user_reason,
            hidden=self.hidden,
        )


class Unavailable(Refused):
    """We cannot know whether the token is good, so the request waits for another time
    (RFC 9110 section 15.6.4). ``retry_after`` is in seconds.
    """

    status = 503
    level = logging.WARNING

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        issuer: str | None = None,
        retry_after: float = 1.0,
    ) -> None:
        self.retry_after = retry_after
        super().__init__(reason, detail, issuer=issuer)

    def again(self) -> Self:
        return type(self)(
            self.reason, self.detail, issuer=self.issuer, retry_after=self.retry_after
        )


class Spared(Unavailable):
    """We cannot know, and did not ask: the server is being spared."""


class RateLimited(Unavailable):
    """We cannot know, and so many new tokens were bad that nobody is asked just now. One
    request of a flood is not worth a warning.
    """

    level = logging.INFO
