"""What a caller gets, by what the decision point says: the same in both worlds."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bearer_middleware import ConfigError, WSGIBearerMiddleware
from bearer_middleware.flow.instruments import DECISIONS
from bearer_middleware.policy.model import Obligation, indeterminate
from tests.policy.conftest import ROUTES, NearPoint, Point, decision, policed, token

STEP_UP = 'Bearer realm="api", error="insufficient_user_authentication"'
OBLIGED = decision("permit", obligations=(Obligation("log", "1"),))

ANSWERS: list[tuple[str, Any, int, str | None]] = [
    ("permit", decision("permit"), 204, None),
    ("deny", decision("deny"), 403, None),
    ("not applicable", decision("not_applicable"), 403, None),
    ("indeterminate", indeterminate("timeout", retry_after=2.2), 503, None),
    (
        "acr",
        decision("deny", acr_values=("loa3", "loa2")),
        401,
        f'{STEP_UP}, acr_values="loa3 loa2"',
    ),
    ("age", decision("deny", max_age=300), 401, f'{STEP_UP}, max_age="300"'),
    ("spoilt acr", decision("deny", acr_values=('a"\r\nx: y',)), 403, None),
    ("spoilt age", decision("deny", max_age=-1), 403, None),
    ("obliged", OBLIGED, 403, None),
    ("true", True, 503, None),
    ("text", "true", 503, None),
    ("one", 1, 503, None),
    ("nothing", None, 503, None),
    ("raises", lambda request: 1 / 0, 503, None),
    ("odd retry", indeterminate("x", retry_after=float("nan")), 503, None),
]


@pytest.mark.parametrize("kind", [Point, NearPoint])
@pytest.mark.parametrize(
    ("said", "status", "challenge"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
def test_answers(around: Any, kind: Any, said: Any, status: int, challenge: Any) -> None:
    """AZ-2, AZ-3, AZ-4, AZ-8, STEP-1: only a permit lets anybody on, and nothing of the decision
    point is shown.
    """
    point = kind(said)
    server = policed(point, routes=ROUTES)
    reply = around(server)("/todos/1", token())
    assert (reply.status, reply.challenge) == (status, challenge)
    assert len(point.asked) == 1
    if status == 503:
        assert int(reply.header("retry-after") or 0) >= 1
    if status >= 400:
        assert reply.header("cache-control") == "no-store"
        assert reply.json["status"] == status
        assert "detail" not in reply.json
    counted = dict(server.events.tally.counted(DECISIONS))
    assert sum(counted.values()) == 1


@pytest.mark.parametrize(
    ("said", "status"), [(True, 204), (False, 403), (None, 403), ("yes", 503), (1, 503)]
)
def test_a_function_for_a_policy(around: Any, said: Any, status: int) -> None:
    """Of what it returns only ``True`` permits."""
    assert (
        around(policed(lambda request: said, routes=ROUTES))("/todos/1", token()).status == status
    )


def test_a_reason_that_may_be_shown(around: Any) -> None:
    """And no other."""
    said = decision("deny", user_reason="Ask the owner.", reasons=("secret-rule",))
    reply = around(policed(Point(said), routes=ROUTES))("/todos/1", token())
    assert reply.json == {"status": 403, "title": "Forbidden", "detail": "Ask the owner."}


@pytest.mark.parametrize("hides", ["server", "route", "not this route"])
def test_what_shall_seem_not_to_be_there(around: Any, hides: str) -> None:
    """ERR-17: 404, for the whole server or for a route; the reason is not shown then either."""
    hide = {"server": None, "route": True, "not this route": False}[hides]
    routes = [{**ROUTES[1], **({} if hide is None else {"hide": hide})}]
    said = Point(decision("deny", user_reason="Ask the owner."))
    server = policed(said, routes=routes, hide_forbidden=hides != "route")
    reply = around(server)("/todos/1", token())
    assert reply.status == (403 if hides == "not this route" else 404)
    assert ("detail" in reply.json) is (hides == "not this route")
    assert around(server)("/nothing", token()).status == (403 if hides == "route" else 404)


@pytest.mark.parametrize(
    ("done", "status"), [(None, 204), (True, 204), (False, 403), ("no", 403), (KeyError, 403)]
)
@pytest.mark.parametrize("kind", [Point, NearPoint])
def test_obligations(around: Any, kind: Any, done: Any, status: int) -> None:
    """AZ-3: done by a function of ours, or it is a denial."""
    calls = []

    def handler(obligation: Obligation, request: Any) -> Any:
        calls.append((obligation.id, request.resource.id))
        if done is KeyError:
            raise KeyError
        return done

    point = kind(OBLIGED)
    server = policed(point, routes=ROUTES, given={"obligations": {"log": handler}})
    reply = around(server)("/todos/7", token())
    assert (reply.status, calls, len(point.asked)) == (status, [("1", "7")], 1)
    reason = "unknown_obligation"
    assert server.events.counts[reason] == (status == 403)  # type: ignore[index]


def test_the_obligation_of_another_authentication(around: Any) -> None:
    """AZ-8: ``step-up`` is understood by itself."""
    obliged = Obligation("step-up", properties={"acr_values": ["loa3"], "max_age": 60})
    said = decision("permit", obligations=(obliged,))
    reply = around(policed(Point(said), routes=ROUTES))("/todos/1", token())
    assert reply.status == 401
    assert reply.challenge == f'{STEP_UP}, acr_values="loa3", max_age="60"'


def test_obligations_that_nobody_does() -> None:
    """Are a mistake when the server is built."""
    with pytest.raises(ConfigError, match="obligations: each is done by a function"):
        policed(Point(), given={"obligations": {"log": "log"}})


@pytest.mark.parametrize(
    ("properties", "claims", "status"),
    [
        ({"acr_values": ["loa3", "loa2"]}, {"acr": "loa2"}, 204),
        ({"acr_values": "loa3 loa2"}, {"acr": "loa1"}, 401),
        ({"acr_values": ["loa3"], "max_age": 60}, {"acr": "loa3", "auth_time": 0}, 204),
        ({"acr_values": ["loa3"], "max_age": 60}, {"acr": "loa3", "auth_time": -600}, 401),
        ({"acr_values": ["loa3"], "max_age": "60"}, {"acr": "loa3", "auth_time": 0}, 401),
        ({"acr_values": ["loa3"], "amr_values": ["hwk"]}, {"acr": "loa3"}, 401),
        ({"acr_values": ['"'], "max_age": 60}, {"auth_time": 0}, 401),
        ({"acr_value": "loa3", "max_age": 60}, {"auth_time": 0}, 401),
        ({}, {"acr": "loa3"}, 403),
    ],
)
def test_an_authentication_that_is_wanted_and_there(
    around: Any, properties: Any, claims: Any, status: int
) -> None:
    """Who came back with it is not sent again; what cannot be seen to be so is not there."""
    said = decision("permit", obligations=(Obligation("step-up", properties=properties),))
    if "auth_time" in claims:
        claims = {**claims, "auth_time": int(time.time()) + claims["auth_time"]}
    reply = around(policed(Point(said), routes=ROUTES))("/todos/1", token(**claims))
    assert reply.status == status


def test_an_async_policy(around: Any) -> None:
    """Serves event loops, and is refused where there is none when the middleware is built."""

    async def policy(request: Any) -> bool:
        return request.resource.id == "1"

    server = policed(policy, routes=ROUTES)
    with pytest.raises(ConfigError, match="policy: an async extension cannot serve WSGI"):
        WSGIBearerMiddleware(lambda *_: [], server=server)
    if "wsgi" not in repr(around):
        assert around(server)("/todos/1", token()).status == 204
        assert around(server)("/todos/2", token()).status == 403


@pytest.mark.parametrize("kind", [Point, NearPoint])
def test_a_rule_that_lets_through(around: Any, kind: Any, caplog: Any) -> None:
    """Only where nobody can decide, only on its route, and it is logged every time."""
    routes = [{**ROUTES[1], "on_error": "allow"}, *ROUTES]
    point = kind(indeterminate("timeout"))
    server = policed(point, routes=routes)
    ask = around(server)
    assert ask("/todos/1", token()).status == 204
    assert "fail_open" in caplog.text
    assert server.events.counts["fail_open"] == 1
    counted = {labels[0] for labels, _ in server.events.tally.counted(DECISIONS)}
    assert counted == {"fail_open"}
    assert ask("/todos", token()).status == 503
    assert ask("/todos/1").status == 401
    point.answer = decision("deny")
    assert ask("/todos/1", token()).status == 403
