"""What a decorator requires of a caller by policy, in words of no framework.

It asks the authorizer that the middleware left beside the identity. ``place`` is the ASGI scope
or the environ of the request.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bearer_middleware.errors import ConfigError, Refused
from bearer_middleware.flow.drivers import arun
from bearer_middleware.flow.effects import is_async
from bearer_middleware.policy.model import Action, Resource
from bearer_middleware.policy.phrasing import parameters_of, resource_of
from bearer_middleware.web.authorizing import AUTHORIZER, Face
from bearer_middleware.web.challenge import CHALLENGES, Answer
from bearer_middleware.web.guards import mark, out_of_order

#: ``type:id`` or ``type:{parameter}``, or a function of the request that returns ``type:id`` or a
#: ``Resource``; in async endpoints it may be async.
ResourceOf = Resource | str | Callable[[Any], Any]

V = TypeVar("V")
_NOWHERE = "a route asks for policy, and no BearerMiddleware is around"
_NO_POLICY = "a route asks for policy, and none is configured"
_TYPE = re.compile(r"[^\s:{}]{1,256}")


class Requirement:
    """``action`` on ``resource``. Raises ``ConfigError`` where it cannot be meant."""

    __slots__ = ("_action", "_find", "_named", "_resource")

    def __init__(self, action: Action | str, resource: ResourceOf) -> None:
        name = action.name if isinstance(action, Action) else action
        if not isinstance(name, str) or not name.strip():
            raise ConfigError("the policy of a route: an action has a name")
        if isinstance(resource, str) and not _TYPE.fullmatch(resource.partition(":")[0]):
            raise ConfigError("the policy of a route: a resource is type:id or type:{parameter}")
        if not isinstance(resource, str | Resource) and not callable(resource):
            raise ConfigError("the policy of a route: a resource is text, a Resource or a function")
        self._action = action
        self._resource = resource if isinstance(resource, str | Resource) else None
        self._find = None if isinstance(resource, str | Resource) else resource
        self._named = parameters_of(resource) if isinstance(resource, str) else frozenset[str]()

    def mark(self, view: V) -> V:
        """Leave a note of this requirement at what it keeps."""
        action, resource = self._action, self._resource
        name = action.name if isinstance(action, Action) else action
        if isinstance(resource, Resource):
            resource = f"{resource.type}:{resource.id}"
        return mark(view, action=name, resource=resource or "what a function finds")

    @property
    def is_async(self) -> bool:
        """Does it take an event loop to find the resource?"""
        return self._find is not None and is_async(self._find)

    def refuse_async(self) -> None:
        """For plain endpoints. Raises ``ConfigError``."""
        if self.is_async:
            raise ConfigError("the policy of a route: an async function needs an async endpoint")

    def refusal(
        self, place: Mapping[str, Any], parameters: Mapping[str, Any], request: Any
    ) -> Answer | None:
        """The answer to a request that may not pass; ``parameters`` are those of its path."""
        face = self._face(place, parameters)
        if not isinstance(face, Face):
            return face
        found = self._resource if self._find is None else self._find(request)
        if inspect.isawaitable(found):
            if inspect.iscoroutine(found):
                found.close()
            return out_of_order("the resource of a plain endpoint has to be awaited")
        resource = self._filled(found, parameters)
        try:
            face.drive(face.inquiry.require(self._action, resource, {}), face.transport)
        except Refused as refusal:
            return face.answer(refusal)
        return None

    async def arefusal(
        self, place: Mapping[str, Any], parameters: Mapping[str, Any], request: Any
    ) -> Answer | None:
        """The same for event loops."""
        face = self._face(place, parameters)
        if not isinstance(face, Face):
            return face
        found = self._resource if self._find is None else self._find(request)
        if inspect.isawaitable(found):
            found = await found
        resource = self._filled(found, parameters)
        try:
            await arun(face.inquiry.require(self._action, resource, {}), face.transport)
        except Refused as refusal:
            return face.answer(refusal)
        return None

    def _filled(self, found: object, parameters: Mapping[str, Any]) -> Resource:
        """Only what was written here is a template; what a function found is data."""
        if self._find is None:
            return resource_of(_known(found), parameters)
        return resource_of(_known(found))

    def _face(self, place: Mapping[str, Any], parameters: Mapping[str, Any]) -> Face | Answer:
        face: Face | None = place.get(AUTHORIZER)
        if face is None:
            return out_of_order(_NO_POLICY if CHALLENGES in place else _NOWHERE)
        if not self._named <= parameters.keys():
            return out_of_order("the resource of a route names a parameter that its path has not")
        return face


def _known(found: object) -> Resource | str:
    """What a function found; where that is nothing, it is no resource, and denied."""
    return found if isinstance(found, Resource | str) else Resource("", "")
