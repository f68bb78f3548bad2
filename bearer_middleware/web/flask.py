"""Flask: who is calling, scopes and policy for single views."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ParamSpec, cast

from flask import Response, current_app, has_request_context, request
from werkzeug.exceptions import HTTPException

from bearer_middleware.access.identity import Identity
from bearer_middleware.policy.model import Action
from bearer_middleware.web.authorizing import BlockingAuthorizer
from bearer_middleware.web.challenge import Answer
from bearer_middleware.web.guards import Guard, asked_by, authorizer_in, identity_in
from bearer_middleware.web.requirement import Requirement, ResourceOf

P = ParamSpec("P")


def current_identity() -> Identity | None:
    """Who is calling; ``None`` is an anonymous caller. To be asked while a request is served."""
    return identity_in(request.environ)


def current_authorizer() -> BlockingAuthorizer:
    """What a view asks whether the caller may. Raises ``ConfigError`` where there is neither policy
    nor table of routes.
    """
    return cast("BlockingAuthorizer", authorizer_in(request.environ))


def requires_scopes(*scopes: str) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Keep a view for tokens with ALL of ``scopes``; without scopes, for any good token.

    For plain and async views; it belongs below ``@app.route(...)``, or among the
    ``decorators`` of a class-based view. Raises ``ConfigError`` where a scope is no scope-token.
    """
    guard = Guard(*scopes)

    def decorate(view: Callable[P, Any]) -> Callable[P, Any]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
            answer = guard.refusal(request.environ, partial(asked_by, view))
            if answer is not None:
                return _response(answer)
            return current_app.ensure_sync(view)(*args, **kwargs)

        return guard.mark(guarded)

    return decorate


def requires(
    action: Action | str, resource: ResourceOf
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Keep a view for callers that policy permits ``action`` on ``resource``: a ``Resource``,
    ``type:id``, ``type:{parameter}`` with parameters of the path, or a plain function of the
    request that returns one of the first two.

    For the views that :func:`requires_scopes` is for. Raises ``ConfigError`` for what cannot be
    meant.
    """
    requirement = Requirement(action, resource)
    requirement.refuse_async()

    def decorate(view: Callable[P, Any]) -> Callable[P, Any]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
            answer = requirement.refusal(request.environ, request.view_args or {}, request)
            if answer is not None:
                return _response(answer)
            return current_app.ensure_sync(view)(*args, **kwargs)

        return requirement.mark(guarded)

    return decorate


def refusal_of(answer: Answer) -> HTTPException | None:
    """The exception that makes the application around a view send ``answer``; ``None`` where no
    view of Flask's is running.
    """
    if not has_request_context():
        return None
    return HTTPException(response=_response(answer))


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, [*answer.headers])
