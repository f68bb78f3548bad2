"""What is revoked dies at once, whatever is cached, in both worlds and for both kinds of token."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest
import trio

from bearer_middleware import BearerMiddleware, Identity, ResourceServer, Settings
from bearer_middleware.errors import Reason, RevocationError
from bearer_middleware.testing import Issuer

Ask = Callable[..., Any]
Make = Callable[..., ResourceServer]
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

#: What is said of a token, and what revokes it.
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "token id": ({"jti": "j-1"}, {"token_id": "j-1"}),
    "session": ({"sid": "s-1"}, {"session": "s-1"}),
    "subject": ({"sub": "alice"}, {"subject": "alice"}),
    "client": ({"client_id": "web"}, {"client": "web"}),
    "issuer": ({}, {"issuer": "https://issuer.test"}),
    "token": ({}, {"token": ...}),
}


@pytest.fixture(params=["jwt", "opaque"])
def mint(request: pytest.FixtureRequest, issuer: Issuer) -> Callable[..., str]:
    """Makes tokens of either kind."""
    return issuer.jwt if request.param == "jwt" else issuer.opaque


@pytest.mark.parametrize("cached", [True, False], ids=["seen before", "never seen"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way(way: str, cached: bool, mint: Callable[..., str], ask: Ask, make: Make) -> None:
    """One token dies, another one lives: nobody has to be asked for it."""
    said, revoked = WAYS[way]
    server = make()
    token = mint(**{"iat": int(time.time()) - 60, "sid": "s-0", "jti": "j-0", **said})
    other = mint(sub="bob", client_id="app", sid="s-2", jti="j-2", iat=int(time.time()) + 20)
    if cached:
        assert ask(server, token).status == 200
    server.revoke(**{name: token if value is ... else value for name, value in revoked.items()})
    refused = ask(server, token)
    assert refused.status == 401
    assert not refused.reached
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    assert server.events.counts[Reason.REVOKED] == 1
    assert ask(server, token).status == 401
    assert ask(server, other).status == 200
    assert ask(server, other).status == 200


def test_a_respelled_token_is_revoked_as_well(ask: Ask) -> None:
    """Whoever holds a token can respell its ECDSA signature."""
    signer = Issuer(algorithm="ES256")
    keywords = signer.settings()
    server = ResourceServer(Settings(**keywords), transport=signer.transport())
    token = signer.jwt()
    head, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    respelled = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    twin = head + "." + base64.urlsafe_b64encode(respelled).decode().rstrip("=")
    assert twin != token
    assert ask(server, twin).status == 200
    server.revoke(token=token)
    assert ask(server, twin).status == 401
    assert ask(server, token).status == 401


@pytest.mark.parametrize("changed", [{"sub": "mallory"}, {"sid": "s-9"}], ids=str)
def test_an_answer_that_changes_is_held_against_all(
    *, ask: Ask, make: Make, issuer: Issuer, clock: Any, changed: dict[str, Any]
) -> None:
    """A token was good as long as its server said something else of it."""
    server, token = make(), issuer.opaque()
    server.revoke(subject="mallory", before=clock() + 60)
    server.revoke(session="s-9")
    for _ in range(2):
        assert ask(server, token).status == 200
    answer = {**issuer.introspect(token), **changed}
    issuer.fail("introspection", status=200, body=json.dumps(answer).encode())
    clock.advance(40)
    for _ in range(3):
        assert ask(server, token).status == 401


def test_a_cutoff_spares_what_was_issued_later(
    mint: Callable[..., str], ask: Ask, make: Make, clock: Any
) -> None:
    """Those of the same second are revoked, and those that do not say when."""
    server, now = make(), int(clock())
    older, same, later = (mint(iat=now + seconds) for seconds in (-5, 0, 1))
    silent = mint(iat=None)
    server.revoke(subject="alice", before=now)
    assert [ask(server, token).status for token in (older, same, later, silent)] == [
        401,
        401,
        200,
        401,
    ]
    server.revoke(subject="alice", before=datetime.fromtimestamp(now + 1, UTC))
    assert ask(server, later).status == 401
    server.revoke(subject="alice", before=now - 100)  # an earlier one takes nothing back
    assert ask(server, later).status == 401


def test_other_issuers_are_spared(ask: Ask, make: Make) -> None:
    """The same subject of another issuer is somebody else."""
    one, two = Issuer(), Issuer("https://two.example")
    names = ("issuer", "audience")
    tables = [{name: other.settings()[name] for name in names} for other in (one, two)]
    server = ResourceServer(
        Settings(issuers=tables, allow_insecure_http=True), transport=_both(one, two)
    )
    assert ask(server, one.jwt()).status == ask(server, two.jwt()).status == 200
    server.revoke(issuer=one.url, subject="alice")
    assert ask(server, one.jwt(iat=1)).status == 401
    assert ask(server, two.jwt(iat=1)).status == 200
    for wrong in (None, "https://three.example"):
        with pytest.raises(ValueError, match="issuer"):
            server.revoke(issuer=wrong, subject="alice")


def _both(one: Issuer, two: Issuer) -> Any:
    """A transport to whoever is meant."""
    import httpx2 as httpx

    inner = {issuer.url.rstrip("/"): issuer.transport() for issuer in (one, two)}

    class Both(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def handle_request(self, request: Any) -> Any:
            return self._of(request).handle_request(request)

        async def handle_async_request(self, request: Any) -> Any:
            return await self._of(request).handle_async_request(request)

        def _of(self, request: Any) -> Any:
            return next(way for url, way in inner.items() if str(request.url).startswith(url))

    return Both()


def test_it_is_kept_for_its_time(ask: Ask, make: Make, clock: Any, issuer: Issuer) -> None:
    """``BEARER_REVOCATION_KEEP``, and not a second less; and a leeway at either end of a token."""
    server = make({"revocation_keep": "1h", "jwt_cache_ttl": 0})
    token = issuer.jwt(exp=int(clock()) + 90_000)
    server.revoke(token=token)
    clock.advance(3_659)
    assert ask(server, token).status == 401
    clock.advance(2)
    assert ask(server, token).status == 200


def test_what_is_mapped_or_validated_apart_dies_too(ask: Ask, make: Make, issuer: Issuer) -> None:
    """The identity of the token counts, not what a mapper made of it."""
    mapped = make(claim_mapper=lambda identity: identity.replace(subject="somebody"))
    token = issuer.jwt(iat=int(time.time()) - 60)
    assert ask(mapped, token).status == 200
    mapped.revoke(subject="alice")
    assert ask(mapped, token).status == 401

    def ours(token: str) -> Identity | None:
        return Identity(subject="carol", issuer=issuer.url) if token == "ours" else None

    validated = make(validators=[ours])
    assert ask(validated, "ours").status == 200
    validated.revoke(subject="carol")
    assert ask(validated, "ours").status == 401
    assert ask(validated, issuer.jwt()).status == 200


def test_scopes_are_still_asked_for(ask: Ask, make: Make, issuer: Issuer) -> None:
    """With something revoked, every other rule holds as before."""
    server = make({"required_scopes": "read"})
    server.revoke(subject="mallory")
    assert ask(server, issuer.jwt(scope="read")).status == 200
    for _ in range(2):
        assert ask(server, issuer.jwt(scope="write")).status == 403


def test_an_event_tells(make: Make) -> None:
    """What kind of thing was revoked, and never which."""
    events: list[Any] = []
    server = make(listener=events.append)
    server.revoke(subject="alice")
    assert [(event.name, event.detail) for event in events] == [("revocation_applied", "subject")]
    assert server.events.counts["revocation_applied"] == 1


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_from_a_loop(run: Callable[..., Any], ask: Ask, make: Make, issuer: Issuer) -> None:
    """``await server.arevoke(...)``."""
    server, token = make(), issuer.jwt()
    assert ask(server, token).status == 200

    async def main() -> None:
        await server.arevoke(token=token)

    run(main) if run is trio.run else run(main())
    assert ask(server, token).status == 401


@pytest.mark.parametrize(
    "said",
    [
        {"subject": "a", "client": "b"},
        {"subject": ""},
        {"subject": 3},
        {"token_id": "a", "before": 1},
        {"token": "a", "before": 1},
        {"subject": "a", "before": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the point
        {"subject": "a", "before": float("nan")},
        {"subject": "a", "before": True},
        {"subject": "a", "before": 1_795_000_000_000},
        {"subject": "a", "issuer": []},
        {"subject": None},
        {"token": None, "before": 1},
        {"token": "é"},
        {"token": "  "},
        {"token": "Bearer a"},
        {"token": b"a"},
        {"before": 1},
        {},
    ],
)
def test_what_is_not_clear_is_refused(make: Make, said: dict[str, Any]) -> None:
    """Nothing is revoked by guess."""
    server = make()
    with pytest.raises(ValueError, match=r"\w"):
        server.revoke(**said)
    assert len(server.revocations) == 0


def test_what_is_misspelled_revokes_nothing(make: Make) -> None:
    """Without the name, all tokens of the issuer would be meant."""
    server = make()
    with pytest.raises(TypeError, match="subjct"):
        server.revoke(issuer="https://issuer.test", subjct="alice")  # type: ignore[call-arg]
    assert len(server.revocations) == 0


def test_the_text_of_a_token_is_in_no_error(make: Make) -> None:
    """Not even where it is none."""
    with pytest.raises(ValueError, match="token") as error:
        make().revoke(token="c4n4ry é")
    assert "c4n4ry" not in repr(error.value)
    assert error.value.__cause__ is None


def test_a_token_says_itself_whose_it_is(ask: Ask) -> None:
    """With several issuers, too."""
    one, two = Issuer(), Issuer("https://two.example")
    names = ("issuer", "audience")
    tables = [{name: other.settings()[name] for name in names} for other in (one, two)]
    server = ResourceServer(Settings(issuers=tables), transport=_both(one, two))
    token, other = one.jwt(), two.jwt()
    server.revoke(token=f"{token}\n")
    assert ask(server, token).status == 401
    assert ask(server, other).status == 200


@pytest.mark.parametrize("text", ["an-api-key", "an.api.key"])
def test_a_token_of_a_validator(ask: Ask, make: Make, issuer: Issuer, text: str) -> None:
    """It dies by its text, whatever kind the validator says it is of."""

    def ours(token: str) -> Identity | None:
        return Identity(subject="carol", issuer=issuer.url) if token == text else None

    server = make(validators=[ours])
    server.revoke(token=text)
    assert ask(server, text).status == 401


class TestSeveralWorkers:
    """The memory of one process is no place for what has to hold in all."""

    @pytest.mark.parametrize(
        ("name", "value"), [("WEB_CONCURRENCY", "4"), ("SERVER_SOFTWARE", "gunicorn/23.0")]
    )
    def test_signs(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        """They are believed, and nothing is revoked."""
        server = make()
        monkeypatch.setenv(name, value)
        with pytest.raises(RevocationError):
            server.revoke(subject="alice")
        assert len(server.revocations) == 0

    def test_one_worker(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """One is none."""
        monkeypatch.setenv("WEB_CONCURRENCY", "1")
        server = make()
        server.revoke(subject="alice")
        assert len(server.revocations) == 1

    def test_while_multiprocessing_is_being_imported(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By another thread: it is there, and nothing of it yet. A worker has all of it."""
        monkeypatch.setitem(sys.modules, "multiprocessing", ModuleType("multiprocessing"))
        server = make()
        server.revoke(subject="alice")
        assert len(server.revocations) == 1

    def test_what_the_wsgi_server_says(self, make: Make, issuer: Issuer) -> None:
        """PEP 3333 has a word for it, which is better than signs."""
        from bearer_middleware import WSGIBearerMiddleware

        for several in (True, False):
            server = make()
            app = WSGIBearerMiddleware(lambda environ, start: [b""], server=server)
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.multiprocess": several}
            list(app(environ, lambda *words: None))
            if several:
                with pytest.raises(RevocationError):
                    server.revoke(subject="alice")
            else:
                server.revoke(subject="alice")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_a_forked_child(self, make: Make) -> None:
        """It has a parent, and perhaps brothers."""
        server = make()
        pid = os.fork()
        if pid == 0:
            try:
                server.revoke(subject="alice")
            except RevocationError:
                os._exit(0)
            except BaseException:  # noqa: BLE001 - a child must not go on with the tests
                os._exit(2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        server.revoke(subject="alice")  # the parent was there before, and is alone


def test_a_revoked_token_over_a_websocket(make: Make, issuer: Issuer) -> None:
    """Refused before it is accepted, like any other bad token."""
    server, token, sent = make(), issuer.jwt(), []
    server.revoke(token=token)

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
    }
    asyncio.run(BearerMiddleware(never, server=server)(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
