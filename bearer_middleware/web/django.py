"""Django, over ASGI and WSGI: who is calling, scopes and policy for single views."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial, wraps
from typing import Any, Self, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.model import Action
from bearer_middleware.web.authorizing import AsyncAuthorizer, BlockingAuthorizer
from bearer_middleware.web.challenge import Answer
from bearer_middleware.web.guards import Guard, asked_by, authorizer_in, identity_in
from bearer_middleware.web.requirement import Requirement, ResourceOf

View = TypeVar("View", bound=Callable[..., Any])


def current_identity(request: HttpRequest) -> Identity | None:
    """Who is calling; ``None`` is an anonymous caller."""
    return identity_in(_place(request))


def current_authorizer(request: HttpRequest) -> BlockingAuthorizer:
    """What a plain view asks whether the caller may; an async one takes
    :func:`current_async_authorizer`. Raises ``ConfigError`` where there is neither policy nor table
    of routes.
    """
    authorizer = authorizer_in(_place(request))
    return cast("BlockingAuthorizer", getattr(authorizer, "blocking", authorizer))


def current_async_authorizer(request: HttpRequest) -> AsyncAuthorizer:
    """The same for async views, over ASGI."""
    authorizer = authorizer_in(_place(request))
    if not isinstance(authorizer, AsyncAuthorizer):
        raise ConfigError("an async view below WSGI asks current_authorizer")
    return authorizer


def requires_scopes(*scopes: str) -> Callable[[View], View]:
    """Keep a view for tokens with ALL of ``scopes``; without scopes, for any good token.

    For plain and async views; with ``method_decorator`` for the methods of class-based ones,
    ``dispatch`` included. Raises ``ConfigError`` where a scope is no scope-token.
    """
    guard = Guard(*scopes)

    def decorate(view: View) -> View:
        async def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            answer = guard.refusal(_place(request), partial(asked_by, view))
            if answer is not None:
                return _Refusal(answer, request)
            return await view(request, *args, **kwargs)

        def plainly_guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            answer = guard.refusal(_place(request), partial(asked_by, view))
            if answer is not None:
                return _Refusal(answer, request)
            return view(request, *args, **kwargs)

        wrapper = guarded if iscoroutinefunction(view) else plainly_guarded
        return cast("View", guard.mark(wraps(view)(wrapper)))

    return decorate


def requires(action: Action | str, resource: ResourceOf) -> Callable[[View], View]:
    """Keep a view for callers that policy permits ``action`` on ``resource``: a ``Resource``,
    ``type:id``, ``type:{parameter}`` with keyword arguments of the view, or a function of the
    request that returns one of the first two.

    For the views that :func:`requires_scopes` is for. Raises ``ConfigError`` for what cannot be
    meant.
    """
    requirement = Requirement(action, resource)

    def decorate(view: View) -> View:
        async def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            answer = await requirement.arefusal(_place(request), kwargs, request)
            if answer is not None:
                return _Refusal(answer, request)
            return await view(request, *args, **kwargs)

        def plainly_guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            answer = requirement.refusal(_place(request), kwargs, request)
            if answer is not None:
                return _Refusal(answer, request)
            return view(request, *args, **kwargs)

        if iscoroutinefunction(view):
            return cast("View", requirement.mark(wraps(view)(guarded)))
        requirement.refuse_async()
        return cast("View", requirement.mark(wraps(view)(plainly_guarded)))

    return decorate


def _place(request: HttpRequest) -> Mapping[str, Any]:
    """Where the middleware left the identity: the ASGI scope, or the environ."""
    place: Mapping[str, Any] = getattr(request, "scope", request.META)
    return place


class _Refusal(HttpResponse):
    """An answer as Django's response."""

    def __init__(self, answer: Answer, request: HttpRequest) -> None:
        body = b"" if request.method == "HEAD" else answer.body
        super().__init__(body, status=answer.status, headers=dict(answer.headers))

    def __await__(self) -> Generator[None, None, Self]:
        # `dispatch` of an async view is no coroutine function but returns a coroutine: whoever
        # calls it waits for what it gets, and so for this.
        yield from ()
        return self
