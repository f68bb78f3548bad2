"""One discovery for everybody who needs any of its endpoints."""

from __future__ import annotations

import threading

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import run
from bearer_middleware.testing import Issuer


def _ask_all(server: ResourceServer, tokens: list[str]) -> list[int]:
    statuses: list[int] = []

    def ask(token: str) -> None:
        try:
            run(server.authenticate([b"Bearer " + token.encode()]), server.transport)
            statuses.append(200)
        except Refused as refusal:
            statuses.append(refusal.status)

    threads = [threading.Thread(target=ask, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_a_cold_start_of_both_kinds_discovers_once() -> None:
    """JWTs want the keys' address and opaque tokens the other one: one document has both."""
    issuer = Issuer()
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    issuer.fail("metadata", delay=0.2)
    tokens = [issuer.jwt(), issuer.opaque()] * 20
    assert _ask_all(server, tokens) == [200] * 40
    assert issuer.requests == {"metadata": 1, "jwks": 1, "introspection": 1}


def test_an_outage_counts_as_one_failure_for_both_kinds() -> None:
    """Two questions that fail at once must not double the time until the next try."""
    issuer = Issuer()
    now = [1_800_000_000.0]
    server = ResourceServer(
        Settings(**issuer.settings()), transport=issuer.transport(), clock=lambda: now[0]
    )
    issuer.fail("metadata", drop=True, delay=0.2)
    tokens = [issuer.jwt(exp=int(now[0]) + 600, iat=int(now[0])), issuer.opaque(exp=None, iat=None)]
    assert _ask_all(server, tokens * 10) == [503] * 20
    issuer.recover()
    now[0] += 1.01
    assert _ask_all(server, tokens) == [200] * 2
