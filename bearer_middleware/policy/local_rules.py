"""A local policy, compiled: found by resource type and action, so what it says of others costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from bearer_middleware.policy.conditions import Facts
from bearer_middleware.policy.local_subjects import Roles, heirs_of, strong_enough
from bearer_middleware.policy.local_table import KnownSubject, LocalTable, Rule
from bearer_middleware.policy.model import AccessRequest, Decision, Effect

_UNKNOWN = KnownSubject()


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule that can be asked; ``decision`` is made once."""

    rule: Rule
    decision: Decision
    #: All roles that have what the rule wants, inherited or not.
    roles: frozenset[str]
    asks_authentication: bool


@dataclass(slots=True)
class Bucket:
    """All that is said of one action on one type of resource."""

    denies: tuple[Compiled, ...] = ()
    permits: tuple[Compiled, ...] = ()
    #: By role: the decision for those that have it.
    roles: dict[str, Decision] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OfType:
    """All that is said of one type of resource: by action where that is named, else by pattern."""

    named: Mapping[str, Bucket]
    others: Bucket
    #: The beginnings of actions that patterns name.
    beginnings: tuple[str, ...]
    #: The bucket of an action that only patterns name.
    made: Callable[[str], Bucket]


class LocalRules:
    """Decides by a table. ``point`` and ``version`` stand in every decision."""

    def __init__(self, table: LocalTable, *, point: str, version: str) -> None:
        self._table, self._point, self._version = table, point, version
        self._heirs = heirs_of(table)
        self._compiled = [self._compile(rule) for rule in table.rules]
        self._of_type = {kind: self._of(kind) for kind in self._types()}
        self._of_others = self._of(None)
        self._no_rule = self._decision(Effect.NOT_APPLICABLE, "no_rule")

    def decide(self, request: AccessRequest, now: float) -> Decision:
        """The decision, at ``now`` in seconds since the epoch."""
        resource, action = request.resource, request.action.name
        of_type = self._of_type.get(resource.type, self._of_others)
        bucket = of_type.named.get(action)
        if bucket is None:
            # str.startswith takes all of them at once; nearly always there are none.
            wide = of_type.beginnings and action.startswith(of_type.beginnings)
            bucket = of_type.made(action) if wide else of_type.others
        subject = request.subject
        known = self._table.subjects.get((subject.type, subject.id), _UNKNOWN)
        roles = Roles(request, known, self._table)
        if bucket.denies:
            denied = self._denied(bucket.denies, request, roles, known.properties, now)
            if denied is not None:
                return denied
        return self._permitted(bucket, request, roles, known.properties, now)

    def _denied(
        self,
        rules: tuple[Compiled, ...],
        request: AccessRequest,
        roles: Roles,
        facts: Facts,
        now: float,
    ) -> Decision | None:
        found = []
        for compiled in rules:
            if self._matches(compiled, request, roles, facts):
                if not compiled.asks_authentication:
                    found.append(compiled.decision)
                elif not strong_enough(compiled.rule, request, now):
                    found.append(self._wanting(compiled.rule))
        # One that better authentication would not help is the answer, if there is one.
        return _merged([each for each in found if not _curable(each)] or found[:1])

    def _permitted(
        self, bucket: Bucket, request: AccessRequest, roles: Roles, facts: Facts, now: float
    ) -> Decision:
        found, wanting = [], None
        if bucket.roles:
            role = next((name for name in roles.names() if name in bucket.roles), None)
            if role is not None:
                found.append(bucket.roles[role])
        for compiled in bucket.permits:
            if not self._matches(compiled, request, roles, facts):
                continue
            if compiled.asks_authentication and not strong_enough(compiled.rule, request, now):
                wanting = wanting or compiled.rule
            else:
                found.append(compiled.decision)
        merged = _merged(found)
        if merged is not None:
            return merged
        return self._no_rule if wanting is None else self._wanting(wanting)

    def _matches(
        self, compiled: Compiled, request: AccessRequest, roles: Roles, facts: Facts
    ) -> bool:
        rule = compiled.rule
        if rule.roles and compiled.roles.isdisjoint(roles.names()):
            return False
        for condition in rule.when:
            if not condition(request, facts):
                return False
        for condition in rule.unless:
            if condition(request, facts):
                return False
        return not rule.relations or self._related(rule.relations, request)

    def _related(self, names: Iterable[str], request: AccessRequest) -> bool:
        resource = (request.resource.type, request.resource.id)
        subject = (request.subject.type, request.subject.id)
        holds = self._table.relations.holds
        return any(holds(resource, name, subject) for name in names)

    # -- made once -----------------------------------------------------------------------

    def _compile(self, rule: Rule) -> Compiled:
        effect = Effect.DENY if rule.denies else Effect.PERMIT
        decision = replace(
            self._decision(effect, rule.name),
            user_reason=rule.user_reason,
            obligations=rule.obligations,
        )
        roles = frozenset().union(*(self._heirs.get(name, {name}) for name in rule.roles))
        asks = bool(rule.acr) or rule.max_age is not None
        return Compiled(rule, decision, roles, asks)

    def _decision(self, effect: Effect, reason: str) -> Decision:
        return Decision(
            effect=effect,
            reasons=(reason,),
            point=self._point,
            policy_version=self._version,
        )

    def _wanting(self, rule: Rule) -> Decision:
        """Denied, but for those who authenticate as the rule wants it (RFC 9470)."""
        return replace(
            self._decision(Effect.DENY, rule.name),
            user_reason=rule.user_reason,
            acr_values=rule.acr,
            max_age=rule.max_age,
        )

    def _types(self) -> set[str]:
        """All types that are named in full."""
        types = {kind for rule in self._table.rules for kind in rule.resources}
        for role in self._table.roles.values():
            types.update(kind for kind, _ in role.permits)
        return types - {"*"}

    def _of(self, kind: str | None) -> OfType:
        """What is said of ``kind``; of those that nobody names where it is ``None``."""
        rules = [each for each in self._compiled if _fits_type(kind, each.rule.resources)]
        permits = [
            (name, action)
            for name, role in self._table.roles.items()
            for wanted, action in role.permits
            if _fits_type(kind, (wanted,))
        ]
        patterns = {action for each in rules for action in each.rule.actions}
        patterns.update(action for _, action in permits)
        made = partial(self._bucket, rules, permits)
        named = {action: made(action) for action in patterns if not action.endswith("*")}
        beginnings = tuple(each[:-1] for each in patterns if len(each) > 1 and each[-1] == "*")
        return OfType(named, made(None), beginnings, made)

    def _bucket(
        self, rules: list[Compiled], permits: list[tuple[str, str]], action: str | None
    ) -> Bucket:
        """What ``rules`` and roles say of ``action``; of any that nobody names for ``None``."""
        fitting = [each for each in rules if _fits(action, each.rule.actions)]
        roles: dict[str, Decision] = {}
        for name, pattern in permits:
            if _fits(action, (pattern,)):
                decision = self._decision(Effect.PERMIT, f"role:{name}")
                for heir in self._heirs[name]:
                    roles.setdefault(heir, decision)
        return Bucket(
            tuple(each for each in fitting if each.rule.denies),
            tuple(each for each in fitting if not each.rule.denies),
            roles,
        )


def _fits_type(kind: str | None, wanted: Iterable[str]) -> bool:
    return any(each in ("*", kind) for each in wanted)


def _fits(action: str | None, patterns: Iterable[str]) -> bool:
    """Does one of the patterns name ``action``? ``*`` alone names those that have no name."""
    for pattern in patterns:
        if pattern in ("*", action):
            return True
        if action is not None and pattern[-1] == "*" and action.startswith(pattern[:-1]):
            return True
    return False


def _curable(decision: Decision) -> bool:
    return bool(decision.acr_values) or decision.max_age is not None


def _merged(found: list[Decision]) -> Decision | None:
    """One decision of several with the same effect: all their reasons and obligations."""
    if len(found) < 2:
        return found[0] if found else None
    return replace(
        found[0],
        reasons=tuple(reason for each in found for reason in each.reasons),
        user_reason=next((each.user_reason for each in found if each.user_reason), None),
        obligations=tuple(one for each in found for one in each.obligations),
    )
