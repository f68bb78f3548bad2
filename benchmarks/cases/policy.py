"""What enforcement costs beside the decision point: whole requests with a remembered JWT, asked
about by a policy that says yes at once, over the same requests without a policy; and what a
remembered decision costs.
"""

from __future__ import annotations

from typing import Any

import worlds
from harness import Case, added, measure, over
from report import Row
from tokens import Material, bare_check, material

from bearer_middleware import BearerMiddleware, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.flow.drivers import run
from bearer_middleware.policy.cached import CachedPoint
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
    Subject,
)

_PERMIT = Decision(effect=Effect.PERMIT)
_ROUTES: list[dict[str, Any]] = [
    {"method": "POST", "path": "/orders", "action": "create", "resource": "order"},
    {
        "method": "GET",
        "path": "/{kind}",
        "action": "list",
        "resource": {"type": "order", "id": "{kind}", "properties": {"by": "$token.sub"}},
    },
]
_MANY = [
    {"method": "GET", "path": f"/{name}/{{id}}", "action": "read", "resource": f"{name}:{{id}}"}
    for name in (f"thing{number}" for number in range(1_000))
]


class _Asked:
    """A decision point that is asked by a flow, and answers without asking anybody."""

    name = "asked"

    def decide(self, request: AccessRequest, deadline: float, *, fresh: bool = False) -> Any:
        yield from ()
        return _PERMIT

    def decide_many(self, requests: Any, deadline: float, *, fresh: bool = False) -> Any:
        yield from ()
        return [_PERMIT] * len(requests)


def _server(tokens: Material, policy: Any = None, **settings: Any) -> ResourceServer:
    keywords = tokens.issuer.settings(algorithms=[tokens.algorithm], **settings)
    return ResourceServer(Settings(**keywords), policy=policy, transport=tokens.issuer.transport())


def _cases(tokens: Material) -> dict[str, Case]:
    jwts = [token.decode() for token in tokens.tokens]
    servers = {
        "without": _server(tokens),
        "with a policy, no table": _server(tokens, lambda request: _PERMIT),
        "with a policy and 1,002 routes": _server(
            tokens, lambda request: _PERMIT, routes=[*_MANY, *_ROUTES]
        ),
        "with one that is asked by a flow": _server(tokens, _Asked(), routes=_ROUTES),
        "with a remembered decision": _server(
            tokens, _Asked(), routes=_ROUTES, policy_cache_ttl=600
        ),
    }
    cases = {}
    for name, server in servers.items():
        asgi = worlds.asgi(BearerMiddleware(worlds.bare_asgi, server=server))
        wsgi = worlds.wsgi(WSGIBearerMiddleware(worlds.bare_wsgi, server=server))
        cases[f"ASGI {name}"] = Case(f"ASGI {name}", asgi, tokens.tokens)
        cases[f"WSGI {name}"] = Case(f"WSGI {name}", wsgi, jwts)
    return cases


def _question(number: int) -> AccessRequest:
    properties = {
        "issuer": "https://issuer.test",
        "client_id": "orders-spa",
        "scopes": ["orders:read", "orders:write"],
        "roles": ["clerk", "editor"],
        "tenant": "acme",
    }
    return AccessRequest(
        Subject("user", f"auth0|{number}", properties),
        Action("read"),
        Resource("order", str(number)),
        {"method": "GET", "path": "/orders/{id}"},
    )


def _remembered() -> Case:
    """What a cache knows already, asked for with a request that is made anew each time."""
    point, questions = CachedPoint(_Asked(), ttl=600), [_question(number) for number in range(64)]
    for question in questions:
        run(point.decide(question, float("inf")), None)
    if not all(point.remembered(question) is not None for question in map(_question, range(64))):
        raise RuntimeError("a decision was forgotten")
    return Case("remembered", point.remembered, questions)


async def rows(rounds: int) -> list[Row]:
    tokens = material()
    raw, cases, remembered = Case("raw", *bare_check(tokens)), _cases(tokens), _remembered()
    await measure([raw, remembered, *cases.values()], rounds)
    return [
        Row("a remembered decision", over(remembered, raw), "raw", 0.5),
        *(
            Row(
                f"request {name}, added", added(case, cases[f"{name[:4]} without"], raw), "raw", 2.5
            )
            for name, case in cases.items()
            if not name.endswith("without")
        ),
    ]
