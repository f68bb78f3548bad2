"""Fetching a Status List Token (draft-ietf-oauth-status-list sections 5.1 and 8.1), as a JWT.

It has to be signed by the issuer of the tokens it speaks of. What is not is nobody's word, and
a ``TransportError``, as if nothing had come: it says nothing of any token. One that the issuer
signed for another place or as somebody else does say something: that this token names no list
of its own.
"""

from __future__ import annotations

from bearer_middleware.errors import InvalidToken, Reason, TransportError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow, Tls
from bearer_middleware.issuer.documents import fetch
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.tokens.jws import Jws, parse_jws, read_header
from bearer_middleware.tokens.status_list import MAX_LIST_BYTES, StatusList, read_status_list

_MEDIA_TYPE = "statuslist+jwt"


def fetch_status_list(
    server: AuthorizationServer, uri: str, upstream: Upstream, clock: Clock, deadline: float
) -> Flow[StatusList]:
    """The list that ``uri`` has now. ``deadline`` is in monotonic seconds.

    Raises ``TransportError`` where there is none that can be believed, ``InvalidToken`` where it
    is another one, ``Unavailable`` where the keys cannot be had.
    """
    body = yield from fetch(
        uri,
        upstream,
        timeout=deadline - clock.monotonic(),
        limit=MAX_LIST_BYTES,
        tls=Tls(server.settings.ca_file),
        accept=f"application/{_MEDIA_TYPE}",
    )
    try:
        jws = _parsed(body)
        server.allow(jws.header.alg)
        yield from server.verify_signature(jws, deadline)
    except InvalidToken as refusal:
        raise TransportError(str(refusal.reason)) from None
    claims = jws.hints
    if claims.get("sub") != uri or claims.get("iss", server.issuer) != server.issuer:
        detail = "the list at its uri is that of another uri or issuer"
        raise InvalidToken(Reason.INVALID_STATUS, detail, issuer=server.issuer)
    try:
        return read_status_list(claims, clock.now(), server.settings.leeway)
    except ValueError as wrong:
        detail = str(wrong)
    raise TransportError(detail)


def _parsed(body: bytes) -> Jws:
    token = body.strip()
    header = read_header(token)
    if header is None or header.typ != _MEDIA_TYPE:
        raise TransportError("not a status list token")
    return parse_jws(token, header)
