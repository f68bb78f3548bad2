"""Flask: who is calling, and scopes for single views."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from flask import Response, current_app, request

from bearer_middleware.access.identity import Identity
from bearer_middleware.web.guards import Guard, identity_in

P = ParamSpec("P")


def current_identity() -> Identity | None:
    """Who is calling; ``None`` is an anonymous caller. To be asked while a request is served."""
    return identity_in(request.environ)


def requires_scopes(*scopes: str) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Keep a view for tokens with ALL of ``scopes``; without scopes, for any good token.

    For plain and async views; it belongs below ``@app.route(...)``, or among the
    ``decorators`` of a class-based view. Raises ``ConfigError`` where a scope is no scope-token.
    """
    guard = Guard(*scopes)

    def decorate(view: Callable[P, Any]) -> Callable[P, Any]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
            answer = guard.refusal(request.environ)
            if answer is not None:
                return Response(answer.body, answer.status, [*answer.headers])
            return current_app.ensure_sync(view)(*args, **kwargs)

        return guard.mark(guarded)

    return decorate
