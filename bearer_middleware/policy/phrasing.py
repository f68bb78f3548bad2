"""From an identity and a route to the question: subject, action, resource and context."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from bearer_middleware.access.identity import Identity
from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.model import NOTHING, Action, Resource, Subject
from bearer_middleware.policy.routes import Match
from bearer_middleware.settings import Settings
from bearer_middleware.settings.parsing import Unreadable, listing, text
from bearer_middleware.settings.routes import ResourceTemplate, Route

#: The members of ``BEARER_POLICY_OPTIONS`` that are read here, whatever the decision point.
OPTIONS = frozenset({"subject_type", "claims"})

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})(?::path)?\}")
_TOLD = ("tenant", "acr", "auth_time")
_SETS = ("roles", "groups", "entitlements", "permissions", "amr")
#: In claims of other names, where a provider has them there.
_ELSEWHERE = frozenset({"roles", "permissions", "tenant"})
_NO_PARAMETERS: Mapping[str, str] = {}

Fill = Callable[[Identity, Mapping[str, str]], Resource]


class Phrasing:
    """Puts the questions of one server. Raises ``ConfigError`` for options it cannot read."""

    __slots__ = ("_claims", "_compiled", "_type")

    def __init__(self, settings: Settings) -> None:
        options, mistakes = settings.policy_options, []
        self._type: str | None = None
        self._claims: tuple[str, ...] = ()
        try:
            if "subject_type" in options:
                self._type = text(options["subject_type"])
        except Unreadable as error:
            mistakes.append(f"BEARER_POLICY_OPTIONS: subject_type {error}")
        try:
            if "claims" in options:
                self._claims = listing(text)(options["claims"])
        except Unreadable as error:
            mistakes.append(f"BEARER_POLICY_OPTIONS: claims {error}")
        if mistakes:
            raise ConfigError(mistakes)
        self._compiled = {
            id(route): _compiled(route) for route in settings.routes or () if not route.public
        }

    def subject(self, identity: Identity) -> Subject | None:
        """Who asks: the subject of the token, with what else is known of him. Nobody where the
        token names none. With several issuers a policy has to compare ``issuer``, too.
        """
        if not identity.subject:
            return None
        kind = self._type or ("client" if identity.is_client else "user")
        return Subject(kind, identity.subject, self._properties(identity))

    def _properties(self, identity: Identity) -> dict[str, Any]:
        claims = identity.claims
        known: dict[str, Any] = {"issuer": identity.issuer, "client_id": identity.client_id}
        if identity.scopes:
            known["scopes"] = sorted(identity.scopes)
        for name in _SETS:
            if (name in claims or name in _ELSEWHERE) and (values := getattr(identity, name)):
                known[name] = sorted(values)
        for name in _TOLD:
            if name in claims or name in _ELSEWHERE:
                known[name] = getattr(identity, name)
        for name in self._claims:
            if name in claims:
                known.setdefault(name, claims[name])
        return {name: value for name, value in known.items() if value is not None}

    def question(self, match: Match, identity: Identity, method: str) -> tuple[Action, Resource]:
        """Action and resource of a route; where it names none, in the shape of AuthZEN's API
        gateways: the method, and the template of the path (AZ-10).
        """
        action, fill = self._compiled[id(match.route)]
        if action is None:
            action = Action(method)
        return action, fill(identity, match.parameters)


def _compiled(route: Route) -> tuple[Action | None, Fill]:
    if route.action is None or route.resource is None:
        gate = Resource("route", route.path)
        return None, lambda identity, parameters: gate
    return Action(route.action), _filler(route.resource)


def _filler(template: ResourceTemplate) -> Fill:
    if not template.properties and not _PLACE.search(template.id):
        always = Resource(template.type, template.id)
        return lambda identity, parameters: always

    def fill(identity: Identity, parameters: Mapping[str, str]) -> Resource:
        properties = template.properties and {
            name: told
            for name, said in template.properties.items()
            if (told := _property(said, identity, parameters)) is not None
        }
        identifier = filled(template.id, parameters)
        return Resource(template.type, identifier, properties or NOTHING)

    return fill


def _property(said: object, identity: Identity, parameters: Mapping[str, str]) -> object:
    if not isinstance(said, str) or not said.startswith("$"):
        return said
    kind, _, name = said.partition(".")
    return (identity.claims if kind == "$token" else parameters).get(name)


def filled(template: str, parameters: Mapping[str, Any]) -> str:
    """The text with its parameters in it, in one pass: what is filled in is never read again.
    A name that is no parameter stays as it is.
    """
    if "{" not in template:
        return template

    def value(place: re.Match[str]) -> str:
        return str(parameters[place[1]]) if place[1] in parameters else place[0]

    return _PLACE.sub(value, template)


def parameters_of(template: str) -> frozenset[str]:
    """The names in braces."""
    return frozenset(place[1] for place in _PLACE.finditer(template))


def resource_of(
    written: Resource | str, parameters: Mapping[str, Any] = _NO_PARAMETERS
) -> Resource:
    """A resource as people write it: ``todo:42``, divided at the first colon only, or
    ``todo:{id}`` with the parameters of the path. Without a colon it is all of a type, ``*``;
    with nothing behind it, it is no resource, and its ``id`` is empty.
    """
    if isinstance(written, Resource):
        return written
    kind, colon, identifier = written.partition(":")
    return Resource(kind, filled(identifier, parameters) if colon else "*")
