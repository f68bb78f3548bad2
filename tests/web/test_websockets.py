"""Websockets: let in with an identity, or refused before they are accepted."""

import pytest

from bearer_middleware.testing import Issuer
from tests.contract.wire import ISSUER, bearer, handshake, protected, reply_of

DENIAL = "websocket.http.response"
TWO = bearer(ISSUER.jwt()) * 2
CASES = {
    "no token": ([], {}, 401, 1008),
    "malformed": ([("Authorization", "Bearer")], {}, 400, 1008),
    "two headers": (TWO, {}, 400, 1008),
    "a bad token": (bearer(ISSUER.jwt(aud="other")), {}, 401, 1008),
    "a scope is missing": (bearer(ISSUER.jwt(scope="")), {"required_scopes": "read"}, 403, 1008),
}


async def _app(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    identity = scope["bearer_middleware.identity"]
    await send({"type": "websocket.send", "text": str(identity and identity.subject)})
    await send({"type": "websocket.close"})


def _accepted(messages, subject):
    return [message.get("text", message["type"]) for message in messages] == [
        "websocket.accept",
        subject,
        "websocket.close",
    ]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("token", [ISSUER.jwt(), ISSUER.opaque()], ids=["jwt", "opaque"])
def test_a_good_token(token, backend):
    """ASGI-3: the application itself accepts, and knows who is calling."""
    assert _accepted(handshake(protected(_app), "/", bearer(token), backend=backend), "alice")


@pytest.mark.parametrize(("headers", "settings", "status", "code"), CASES.values(), ids=CASES)
def test_refused_by_an_answer(headers, settings, status, code):
    """ASGI-3: with the extension it is the same answer that HTTP gets."""
    messages = handshake(protected(_app, **settings), "/", headers)
    reply = reply_of(messages, DENIAL)
    assert reply.status == reply.json["status"] == status
    assert reply.challenge.startswith('Bearer realm="api"')
    assert reply.header("cache-control") == "no-store"


@pytest.mark.parametrize(("headers", "settings", "status", "code"), CASES.values(), ids=CASES)
def test_refused_by_a_code(headers, settings, status, code):
    """ASGI-3: without the extension it is closed before it is accepted: policy violation. Most
    middlewares of others guard http alone.
    """
    [message] = handshake(protected(_app, **settings), "/", headers, can_deny=False)
    assert (message["type"], message["code"]) == ("websocket.close", code)


def test_an_outage():
    """ERR-16: 503 and when to come back, or the code for trying again later."""
    issuer = Issuer()
    issuer.fail("all", drop=True)
    app = protected(_app, issuer)
    reply = reply_of(handshake(app, "/", bearer(issuer.opaque())), DENIAL)
    assert (reply.status, reply.challenge) == (503, None)
    assert int(reply.header("retry-after")) >= 1
    [message] = handshake(app, "/", bearer(issuer.opaque()), can_deny=False)
    assert (message["type"], message["code"]) == ("websocket.close", 1013)


def test_exempt():
    """A handshake is a GET."""
    app = protected(_app, exempt="GET /feed")
    assert _accepted(handshake(app, "/feed"), "None")


def test_optional():
    """Who shows nothing is anonymous here too."""
    assert _accepted(handshake(protected(_app, optional=True)), "None")


def test_a_token_among_the_subprotocols():
    """TOK-16: it is no token; only the header counts."""

    async def with_subprotocols(scope, receive, send):
        scope["subprotocols"] = ["bearer", ISSUER.jwt()]
        await protected(_app)(scope, receive, send)

    assert reply_of(handshake(with_subprotocols), DENIAL).status == 401


def test_a_server_that_leaves_extensions_out():
    """The key is optional, and may be ``None``."""
    for extensions in ({}, {"extensions": None}):

        async def app(scope, receive, send, extensions=extensions):
            del scope["extensions"]
            await protected(_app)({**scope, **extensions}, receive, send)

        assert [message["code"] for message in handshake(app)] == [1008]
