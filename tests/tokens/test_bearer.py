"""The Authorization header, and all the other places where no token is looked for."""

import asyncio
import gc
import io
import logging
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, WSGIBearerMiddleware
from bearer_middleware.errors import InvalidRequest, MissingToken, Reason
from bearer_middleware.testing import Issuer
from bearer_middleware.tokens.bearer import bearer_token
from tests.tokens.forging import Gate, forge

ENOUGH = 8192


@pytest.mark.parametrize(
    "token", [b"a", b"mF_9.B5f-4.1JqM", b"A-Z._~+/9==", b"=".join([b"x", b""])]
)
def test_bearer_token_is_read(token: bytes) -> None:
    """TOK-1: the token is what stands behind the scheme, of every character RFC 6750 allows."""
    assert bearer_token([b"Bearer " + token], ENOUGH) == token


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
def test_scheme_is_case_insensitive(gate: Gate, scheme: bytes) -> None:
    """TOK-2: every spelling of the scheme is the scheme, the first time and when remembered."""
    for _ in range(2):
        assert gate.show(scheme + b" " + forge().encode()) is not None


@pytest.mark.parametrize("spaces", [1, 2, 3, 100])
def test_spaces_before_the_token_are_skipped(spaces: int) -> None:
    """TOK-3: one or more spaces, and the token is the same."""
    assert bearer_token([b"Bearer" + b" " * spaces + b"tok"], ENOUGH) == b"tok"


MALFORMED = [
    *(b"Bearer", b"Bearer ", b"Bearer   ", b"Bearer\ttok", b"Bearer \ttok", b"Bearer tok\t"),
    *(b"Bearer tok ", b"Bearer a b", b'Bearer "tok"', b"Bearer =abc", b"Bearer a=b", b"Bearer ="),
    *(b"Bearer a=b=", b"Bearer ==a", b"Bearer tok\r\n", b"Bearer tok\n", b"Bearer tok\0"),
    *(
        b"Bearer token=tok,x",
        b"Bearer {tok}",
        b"Bearer t%6Fk",
        b"Bearer t\xc3\xb6k",
        b"Bearer \xff",
    ),
    *(b"Bearer\x00tok", b"Bearer\xa0tok", b"Bearer,tok", b"Bearer=tok", b"Bearer:tok"),
]


@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_credentials_are_an_invalid_request(value: bytes) -> None:
    """TOK-3, TOK-7: what is no token68 never reaches a verifier."""
    with pytest.raises(InvalidRequest) as refused:
        bearer_token([value], ENOUGH)
    assert (refused.value.status, refused.value.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    "values",
    [
        [b"Bearer a", b"Bearer b"],
        [b"Bearer a", b"Bearer a"],
        [b"Bearer a", b"Basic Zm9v"],
        [b"Basic Zm9v", b"Bearer a"],
        [b"", b"Bearer a"],
        [b"Bearer a,Bearer b"],
        [b"Bearer a, bearer b"],
        [b"Bearer a,"],
        [b",Bearer a"],
        [b"Basic Zm9v,Bearer a"],
        [b"Basic Zm9v , \t BEARER\ta"],
        [b"Basic Zm9v,bearer"],
    ],
)
def test_two_credentials_are_an_invalid_request(values: list[bytes]) -> None:
    """TOK-5, TOK-6: Authorization is one header, also where a server joined two with a comma."""
    with pytest.raises(InvalidRequest) as refused:
        bearer_token(values, ENOUGH)
    assert refused.value.reason is Reason.MULTIPLE_CREDENTIALS


@pytest.mark.parametrize(
    "values",
    [
        *([], [b""], [b"Basic Zm9v"], [b"DPoP tok"], [b"Bearerish tok"], [b"Bearer-Token tok"]),
        *([b"Bearer\x27 x"], [b"Bearer_ x"], [b"Bear"], [b"tok"], [b" "], [b"Token bearer"]),
        [b'Digest username="bearer", realm="x"'],
    ],
)
def test_another_scheme_is_no_authentication_information(values: list[bytes]) -> None:
    """TOK-12: without a bearer token the answer is a 401 with no error code."""
    with pytest.raises(MissingToken) as refused:
        bearer_token(values, ENOUGH)
    assert (refused.value.status, refused.value.code) == (401, None)


@pytest.mark.parametrize(
    ("spaces", "length", "fits"), [(1, 64, True), (1, 65, False), (9, 64, False)]
)
def test_length_is_bounded_before_anything_else(spaces: int, length: int, fits: bool) -> None:
    """DET-6: no byte of an over-long header is looked at."""
    value = b"Bearer" + b" " * spaces + b"\xff" * length
    with pytest.raises(InvalidRequest) as refused:
        bearer_token([value], 64)
    assert (refused.value.reason is Reason.TOO_LONG) is not fits


# -- in the frameworks' worlds ------------------------------------------------------------


def asgi_status(gate: Gate, headers: Iterable[Any], **scope: Any) -> tuple[int, list[Any]]:
    """The status an ASGI server would send, and the headers that the application saw."""
    seen: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"access_token=" + forge().encode()}

    async def send(message: Any) -> None:
        sent.append(message)

    request = {"type": "http", "method": "GET", "path": "/", "headers": headers, **scope}
    asyncio.run(BearerMiddleware(app, server=gate.server)(request, receive, send))
    return sent[0]["status"], seen


def wsgi_status(gate: Gate, **environ: Any) -> int:
    """The status a WSGI server would send."""
    started: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO(), **environ}
    WSGIBearerMiddleware(app, server=gate.server)(request, lambda status, _: started.append(status))
    return int(started[0][:3])


@pytest.mark.parametrize("name", [b"authorization", b"Authorization", b"AUTHORIZATION"])
def test_header_name_is_case_insensitive(gate: Gate, name: bytes) -> None:
    """TOK-4: ASGI servers should write names in lower case, and need not."""
    assert asgi_status(gate, [(name, b"Bearer " + forge().encode())])[0] == 200


def test_headers_may_be_an_iterable_that_is_read_once(gate: Gate) -> None:
    """TOK-5: lists of pairs, tuples and generators are headers, and the application sees all."""
    pairs = [[b"authorization", b"Bearer " + forge().encode()], [b"x", b"1"], [b"x", b"2"]]
    status, seen = asgi_status(gate, (pair for pair in pairs))
    assert (status, seen) == (200, pairs)


def test_two_header_lines_are_a_bad_request(gate: Gate) -> None:
    """TOK-5: also where both say the same."""
    line = (b"authorization", b"Bearer " + forge().encode())
    assert asgi_status(gate, [line, line])[0] == 400


def test_a_comma_joined_header_is_a_bad_request(gate: Gate) -> None:
    """TOK-6: WSGI servers join two lines."""
    token = forge()
    assert wsgi_status(gate, HTTP_AUTHORIZATION=f"Bearer {token},Bearer {token}") == 400


@pytest.mark.parametrize(
    "value", ["Bearer \xe9", "Bearer \u20ac", "Bearer \udce9", "Bearer a\u0142b"]
)
def test_environ_beyond_ascii_is_a_bad_request(gate: Gate, value: str) -> None:
    """TOK-7: text that is no latin-1, or no token, breaks nothing."""
    assert wsgi_status(gate, HTTP_AUTHORIZATION=value) == 400


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"query_string": b"access_token=" + forge().encode()},
        {"method": "POST"},
        {"headers": [(b"cookie", b"access_token=" + forge().encode())]},
        {"headers": [(b"x-authorization", b"Bearer " + forge().encode())]},
        {"headers": [(b"proxy-authorization", b"Bearer " + forge().encode())]},
        {"headers": [(b"sec-websocket-protocol", b"bearer, " + forge().encode())]},
    ],
)
def test_tokens_in_other_places_are_ignored(gate: Gate, elsewhere: dict[str, Any]) -> None:
    """TOK-8, TOK-9, TOK-11, TOK-13: query, form, cookie and other headers carry no token."""
    request: dict[str, Any] = {"headers": [], **elsewhere}
    assert asgi_status(gate, **request)[0] == 401
    good = (b"authorization", b"Bearer " + forge().encode())
    request["headers"] = [*request["headers"], good]
    assert asgi_status(gate, **request)[0] == 200


def test_a_websocket_subprotocol_carries_no_token(gate: Gate) -> None:
    """TOK-16: a token among the subprotocols is nobody's credentials."""
    scope = {"type": "websocket", "subprotocols": ["bearer", forge()]}
    scope["extensions"] = {"websocket.http.response": {}}
    assert asgi_status(gate, [], **scope)[0] == 401


# -- tokens are secrets -------------------------------------------------------------------


def reachable(root: object, skip: Iterable[object]) -> Iterable[object]:
    """Every object that hangs on ``root``; code and modules are not data."""
    seen, rest = {id(thing) for thing in skip}, [root]
    while rest:
        thing = rest.pop()
        if id(thing) in seen or isinstance(thing, ModuleType | FunctionType | type):
            continue
        seen.add(id(thing))
        yield thing
        rest.extend(gc.get_referents(thing))


def test_nothing_keeps_a_token(
    issuer: Issuer, asking: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """TOK-14: after use no token is in a cache, a log record or a representation."""
    caplog.set_level(logging.DEBUG)
    tokens = [
        issuer.jwt(jti="token-is-kept-as-facts"),
        issuer.opaque(),
        issuer.jwt(aud="others"),
        issuer.opaque(aud="others"),
    ]
    shown = [asking.admit(token) for token in tokens[:2]]
    tokens.append(issuer.opaque(token="a-canary-that-is-inactive", active=False))
    refused = [repr(asking.refuse(token)) for token in tokens[2:]]
    issuer.fail("introspection", drop=True)
    tokens.append("a-canary-nobody-can-judge")
    refused.append(repr(asking.refuse(tokens[-1])))
    texts = [caplog.text, repr(shown), repr(refused), repr(asking.server)]
    kept = reachable([asking.server, shown], skip=[asking.server.transport, issuer])
    texts += [repr(thing) for thing in kept if isinstance(thing, str | bytes | bytearray)]
    assert any("token-is-kept-as-facts" in text for text in texts)  # so the memory was looked at
    for token in tokens:
        assert not [text for text in texts if token in text or token.split(".")[-1] in text]


def test_the_token_goes_nowhere_but_into_the_question_about_it(
    issuer: Issuer, asking: Gate
) -> None:
    """TOK-15: no request of ours carries the caller's Authorization, no identity the token."""
    tokens = [issuer.jwt(), issuer.opaque()]
    identities = [asking.admit(token) for token in tokens]
    for token, identity in zip(tokens, identities, strict=True):
        values = [getattr(identity, name, "") for name in dir(identity)]
        assert token not in repr([repr(value) for value in values])
        for request in issuer.log:
            assert token not in repr(request.headers) + request.path
            assert (token in repr(request.body)) is (
                request.endpoint == "introspection" and token == tokens[1]
            )
