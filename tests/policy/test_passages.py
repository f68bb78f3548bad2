"""What stands between us and a decision point: seen in health and metrics, however wrapped."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.transport import _http
from bearer_middleware.policy.authzen import AuthZEN
from bearer_middleware.policy.cached import CachedPoint
from bearer_middleware.policy.combined import AllOf, FirstApplicable
from bearer_middleware.policy.model import AccessRequest, Action, Resource, Subject
from bearer_middleware.policy.opa import Opa
from bearer_middleware.policy.passages import condition, upstreams_of
from bearer_middleware.policy.shadow import Shadow
from bearer_middleware.testing import Issuer
from tests.policy.conftest import NearPoint

URL = "https://pdp.example"


def request(number: int) -> AccessRequest:
    """Each is another, so that none is shared."""
    return AccessRequest(Subject("user", "alice"), Action("read"), Resource("todo", str(number)))


def make(status: int, metrics: Any = None, **settings: Any) -> ResourceServer:
    """A server whose decision point answers with this status."""
    issuer = Issuer()
    keywords = {**issuer.settings(), "policy": "authzen", "policy_url": URL, **settings}
    httpx: Any = _http()  # as the middleware has it
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json={}))
    return ResourceServer(Settings(**keywords), transport=transport, metrics=metrics)


def ask(server: ResourceServer, times: int) -> None:
    """Put questions, whatever comes of them."""
    assert server.authorizer is not None
    assert server.authorizer.point is not None
    for number in range(times):
        flow = server.authorizer.point.decide(request(number), 10.0**12)
        run(flow, server.transport)


@pytest.mark.parametrize("ttl", [0, 30])
def test_health(ttl: float) -> None:
    """AZ-4: degraded while the decision point is left alone, and as ready as before."""
    options = {"discovery": "false"}
    server = make(500, policy_cache_ttl=ttl, policy_options=options)
    before = server.health()
    expected = {"status": "ok", "point": "authzen"}
    assert before.parts["policy"].items() >= expected.items()
    assert before.parts["policy"]["breakers"]["policy"] == "closed"
    ask(server, 10)
    after = server.health()
    assert after.parts["policy"]["status"] == "degraded"
    assert after.parts["policy"]["breakers"]["policy"] == "open"
    assert after.ready is before.ready
    assert URL not in str(after.as_dict())


def test_health_without_upstream() -> None:
    """What is in this process has no breaker, and no part in health."""
    options = {"rules": [{"name": "r", "effect": "permit", "actions": ["*"], "resources": ["*"]}]}
    server = make(200, policy="local", policy_url=None, policy_options=options)
    assert "policy" not in server.health().parts
    assert server.policy_upstreams == ()
    assert ResourceServer(Settings(**Issuer().settings())).policy_upstreams == ()


def test_metrics() -> None:
    """Breaker and exchanges under way, by target."""
    registry = CollectorRegistry()
    server = make(500, registry, policy_options={"discovery": "false"})

    def value(name: str) -> float | None:
        return registry.get_sample_value(name, {"target": "policy"})

    assert (value("bearer_breaker_state"), value("bearer_upstream_in_flight")) == (0, 0)
    ask(server, 10)
    assert value("bearer_breaker_state") == 2


def test_wrapped() -> None:
    """Every wrapper lets them pass, each once; a candidate that nobody obeys is not looked at."""
    one, other = AuthZEN(URL), Opa(f"{URL}/v1/data/a")
    assert CachedPoint(one).upstreams == one.upstreams
    assert CachedPoint(one).extensions == one.extensions
    assert upstreams_of(AllOf(one, CachedPoint(other), one)) == (*one.upstreams, *other.upstreams)
    assert upstreams_of(FirstApplicable(other, one)) == (*other.upstreams, *one.upstreams)
    assert upstreams_of(Shadow(one, other)) == one.upstreams
    assert upstreams_of(NearPoint()) == ()


def test_extensions_of_a_remembered_point() -> None:
    """A function that gives the token is found behind the cache, so an async one is refused."""

    async def token() -> str:
        return "x"

    point = CachedPoint(AuthZEN(URL, token=token))
    assert point.extensions == (token,)
    server = ResourceServer(Settings(**Issuer().settings()), policy=point)
    assert token in server.extensions_of_policy


def test_the_worst_of_several() -> None:
    """Two decision points of one kind are told of as one: an open breaker is not hidden."""
    one, other = Opa(f"{URL}/v1/data/a"), Opa(f"{URL}/v1/data/b")
    server = make(500)
    for number in range(10):
        run(other.decide(request(number), 10.0**12), server.transport)
    status, told = condition(AllOf(one, other))
    assert (status, told["breakers"]) == ("degraded", {"policy": "open"})
