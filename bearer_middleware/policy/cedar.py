"""``BEARER_POLICY=cedar``: Cedar in this process, by cedarpy (extra ``cedar``).

The subject is the principal, with its properties as attributes and its roles as parents
(``Role::"admin"``); the resource has its properties as attributes; the action is
``Action::"name"``; the context is the context. Names are data to Cedar, never parsed.

``BEARER_POLICY_OPTIONS`` may have

``namespace``    before all types: ``Todo`` makes ``Todo::user``
``types``        other names for types of subjects and resources: ``{user = "User"}``
``roles``        the property of the subject that lists its roles; ``roles``
``role_type``    their type; ``Role``
``entities``     a file of entities in Cedar's JSON. What it says of a principal or a resource
                 wins over what the request says, and the parents are those of both
``schema``       a file with a schema, in Cedar's or in JSON: policies and requests are held
                 against it
``attributes``   by type (and ``context``): the attributes to hand on; all that Cedar has types
                 for. With a schema leave out none that it wants, and name none that it lacks

Cedar knows no fractions, no ``null`` and no number beyond 64 bits: such an attribute is left out,
and so is one with a member that Cedar would take for an entity (``__entity``, ``__extn``).
Where a ``forbid`` then cannot be evaluated, the decision is indeterminate and not a permit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.cedar_entities import KnownEntities, Vocabulary, attributes_of
from bearer_middleware.policy.engines import Engine, engine
from bearer_middleware.policy.kept import Given, Held, InFiles, line_at, version_of
from bearer_middleware.policy.members import members_of
from bearer_middleware.policy.model import AccessRequest, Decision, Effect, indeterminate
from bearer_middleware.policy.point import Surroundings
from bearer_middleware.settings import Settings, parsing

_MOST_USUAL = 256
_ERRED = re.compile(r"policy `([^`]+)`")
_SCANNED = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|(;)', re.DOTALL)
_LEADING = re.compile(r"(?:\s|//[^\n]*)*")


@dataclass(frozen=True, slots=True)
class CedarRules:
    """Policies, parsed once, with all that belongs to them."""

    policies: Any
    schema: Any
    known: KnownEntities
    #: Policies that forbid, by their ids.
    forbidding: frozenset[str]
    version: str
    #: Decisions for the same reasons are the same: made once.
    usual: dict[tuple[object, ...], Decision] = field(default_factory=dict)


class CedarPolicy(Engine):
    """Decides by Cedar policies. ``entities`` and ``schema`` are texts as in the files. Raises
    ``ConfigError``.
    """

    def __init__(
        self,
        policies: str | Held[CedarRules],
        *,
        entities: str = "",
        schema: str = "",
        vocabulary: Vocabulary | None = None,
        name: str = "cedar",
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(name, surroundings)
        cedarpy = engine("cedar", "cedarpy", "cedar")
        self._authorize, self._words = cedarpy.is_authorized, vocabulary or Vocabulary()
        if isinstance(policies, str):
            try:
                self._held: Held[CedarRules] = Given(compile_texts(policies, entities, schema))
            except ValueError as error:
                raise ConfigError(f"the Cedar policies: {error}") from None
        else:
            self._held = policies

    def _judge(self, request: AccessRequest) -> Decision:
        rules, words = self._held.current(), self._words
        subject, resource = request.subject, request.resource
        asked: dict[str, Any] = {
            "principal": {"type": words.type_of(subject.type), "id": subject.id},
            "action": {"type": words.action_type, "id": request.action.name},
            "resource": {"type": words.type_of(resource.type), "id": resource.id},
            "context": "{}",
        }
        if request.context:
            context = attributes_of(request.context, words.handed_on("context"))
            asked["context"] = json.dumps(context)
        entities = rules.known.around(request, asked, words)
        answer = self._authorize(asked, rules.policies, entities, rules.schema)
        return self._decision(answer, rules)

    def _decision(self, answer: Any, rules: CedarRules) -> Decision:
        told, effect = answer.diagnostics, _EFFECTS.get(answer.decision.name)
        if effect is None:
            self._tell("no decision")
            return indeterminate("no_decision", point=self.name)
        erred = [_policy_of(error) for error in told.errors]
        if erred:
            self._tell("a policy could not be evaluated")
            if effect is Effect.PERMIT and not rules.forbidding.isdisjoint(erred):
                return indeterminate("policy_error", point=self.name)
        key = (effect, *told.reasons, bool(erred))
        decision = rules.usual.get(key)
        if decision is None:
            decision = self._made(effect, told, rules, erred=bool(erred))
            if len(rules.usual) < _MOST_USUAL:
                rules.usual[key] = decision
        return decision

    def _made(self, effect: Effect, told: Any, rules: CedarRules, *, erred: bool) -> Decision:
        names = told.id_annotations_by_reason
        reasons = sorted(names.get(reason) or reason for reason in told.reasons)
        return Decision(
            effect=effect,
            reasons=(*reasons, "policy_error") if erred else tuple(reasons),
            point=self.name,
            policy_version=rules.version,
        )


def _policy_of(error: str) -> str:
    """The id of the policy that erred; ``""``, which forbids, where that is not clear."""
    match = _ERRED.search(error)
    return match[1] if match else ""


_EFFECTS = {"Allow": Effect.PERMIT, "Deny": Effect.DENY}


def open_point(settings: Settings, surroundings: Surroundings) -> CedarPolicy:
    """The policies of ``BEARER_POLICY_FILE``. Raises ``ConfigError``."""
    engine("cedar", "cedarpy", "cedar")
    said = members_of(settings.policy_options, _OPTIONS)
    sources = [("BEARER_POLICY_FILE", settings.policy_file or "")]
    named = [name for name in ("entities", "schema") if name in said]
    sources += [(f"BEARER_POLICY_OPTIONS {name}", said.pop(name)) for name in named]

    def compiled(policies: str, *others: str) -> CedarRules:
        return compile_texts(policies, **dict(zip(named, others, strict=True)))

    held = InFiles(sources, compiled, surroundings)
    return CedarPolicy(held, vocabulary=Vocabulary(**said), surroundings=surroundings)


def compile_texts(policies: str, entities: str = "", schema: str = "") -> CedarRules:
    """Parsed policies. Raises ``ValueError`` with the line of the one that is wrong."""
    cedarpy = engine("cedar", "cedarpy", "cedar")
    parsed = _parsed(cedarpy, policies)
    handle = None
    if schema:
        try:
            handle = cedarpy.Schema.from_str(schema)
            valid = bool(cedarpy.validate_policies(policies, schema).validation_passed)
        except ValueError:
            raise ValueError("the schema cannot be parsed") from None
        if not valid:
            raise ValueError("a policy does not fit the schema")
    static = json.loads(cedarpy.policies_to_json_str(policies))["staticPolicies"]
    forbidding = {name for name, policy in static.items() if policy["effect"] == "forbid"}
    known = KnownEntities(entities, static)
    try:
        cedarpy.Entities.from_json_str(entities or "[]", handle)
    except ValueError:
        raise ValueError("the entities cannot be parsed") from None
    version = version_of(policies, entities, schema)
    return CedarRules(parsed, handle, known, frozenset(forbidding | {""}), version)


def _parsed(cedarpy: Any, policies: str) -> Any:
    try:
        return cedarpy.PolicySet.from_str(policies)
    except ValueError:
        pass
    for place, policy in _each(policies):
        try:
            cedarpy.PolicySet.from_str(policy)
        except ValueError:
            raise ValueError(f"line {line_at(policies, place)}: cannot be parsed") from None
    raise ValueError("cannot be parsed")


def _each(policies: str) -> Iterator[tuple[int, str]]:
    """Each policy by itself, and where it begins."""
    begun = 0
    ends = [match.end() for match in _SCANNED.finditer(policies) if match[1]]
    for end in (*ends, len(policies)):
        lead = _LEADING.match(policies, begun, end)
        place = lead.end() if lead else begun
        if place < end:
            yield place, policies[begun:end]
        begun = end


def _attributes(value: object) -> dict[str, frozenset[str]]:
    names = parsing.listing(parsing.text)
    return {kind: frozenset(names(listed)) for kind, listed in parsing.table(value).items()}


def _types(value: object) -> dict[str, str]:
    return {kind: parsing.text(name) for kind, name in parsing.table(value).items()}


_OPTIONS = {
    "namespace": parsing.text,
    "types": _types,
    "roles": parsing.text,
    "role_type": parsing.text,
    "entities": parsing.path,
    "schema": parsing.path,
    "attributes": _attributes,
}
