"""``BEARER_POLICY=casbin``: Casbin in this process (extra ``casbin``): a model and a CSV of rules.

``BEARER_POLICY_OPTIONS`` has ``model``, the file of the model, which is required, and may have
``request``, what its request definition is given, in order: ``subject.id``, ``resource.type``
and ``action.name`` unless told otherwise; for a fourth ``subject.properties.tenant`` comes to
mind. Besides the references of local rules there are ``subject``, ``resource``, ``action`` and
``context`` as a whole, so a matcher may say ``r.obj.properties.owner == r.sub.id``.

A subject whose id is the name of a role (the second of a ``g``) is denied: to Casbin it would
be that role. What is missing in the request, or in an object that a matcher looks into, is
indeterminate. Casbin looks at one rule after the other: it is for hundreds of them, not
thousands.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.conditions import Getter, reference
from bearer_middleware.policy.engines import Engine, Pool, engine
from bearer_middleware.policy.kept import Given, Held, InFiles, version_of
from bearer_middleware.policy.members import members_of
from bearer_middleware.policy.model import NOTHING, AccessRequest, Decision, Effect, information
from bearer_middleware.policy.model import indeterminate as undecided
from bearer_middleware.policy.point import Surroundings
from bearer_middleware.settings import Settings, parsing

_USUAL = ("subject.id", "resource.type", "action.name")
_ENTITIES = ("subject", "resource", "action", "context")
#: Casbin logs every request, refused ones as warnings; that is for audit to do.
_SILENT = logging.Logger("casbin", logging.CRITICAL + 1)  # noqa: LOG001 - nobody finds it
_NEEDS_MODEL = "BEARER_POLICY_OPTIONS model is required with BEARER_POLICY=casbin"


class CasbinRules:
    """A model and its rules. Raises ``ValueError`` with the line of the rule that is wrong."""

    def __init__(self, casbin: Any, rules: str, model: str, width: int) -> None:
        self._casbin, self._rules, self._text = casbin, rules, model
        #: The syntax trees of matchers, by their texts.
        self._trees: dict[str, Any] = {}
        self.version = version_of(rules, model)
        first = self._enforcer()
        if len(first.model["r"]["r"].tokens) != width:
            raise ValueError("the model has another number of values in its request than request")
        grouping = first.model.model.get("g", {}).values()
        #: Whoever is called so would be taken for the role.
        self.roles = frozenset(rule[1] for one in grouping for rule in one.policy)
        self._pool = Pool(self._enforcer)
        _try_matcher(first, width)
        self._pool.give_back(first)

    def enforce(self, values: Sequence[Any]) -> tuple[bool, list[str]]:
        """Is it allowed, and by which rule? Every caller has an enforcer to itself, since they
        change while they are asked.
        """
        enforcer = self._pool.take()
        allowed, rule = enforcer.enforce_ex(*values)
        self._pool.give_back(enforcer)
        return allowed, rule

    def _enforcer(self) -> Any:
        model = _model(self._casbin, self._text)
        _load(self._casbin, model, self._rules)
        try:
            enforcer = self._casbin.Enforcer(model, enable_log=False)
            enforcer.build_role_links()
        except Exception:  # noqa: BLE001 - its words quote the policy
            raise ValueError("the rules do not fit the model") from None
        enforcer.logger = _SILENT
        enforcer._get_expression = self._remembering(enforcer._get_expression)
        return enforcer

    def _remembering(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Casbin would parse the matcher for every request: that takes long, and parsers of
        Python 3.11 that run in several threads disturb each other.
        """
        known: dict[str, Any] = {}  # those of one enforcer, so of one caller

        def expression(text: str, functions: Any = None) -> Any:
            made = known.get(text)
            if made is None:
                tree = self._trees.get(text)
                made = known[text] = make(text if tree is None else "", functions)
                if tree is not None:
                    made.expr, made.ast_parsed_value = text, tree
                self._trees[text] = made.ast_parsed_value
            return made

        return expression


class CasbinPolicy(Engine):
    """Decides by a Casbin model and the text of its rules. Raises ``ConfigError``."""

    def __init__(
        self,
        rules: str | Held[CasbinRules],
        model: str = "",
        *,
        request: Sequence[str] = _USUAL,
        name: str = "casbin",
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(name, surroundings)
        casbin = engine("casbin", "casbin", "casbin")
        try:
            self._getters = tuple(map(_getter, request))
            if isinstance(rules, str):
                made = CasbinRules(casbin, rules, model, len(request))
                self._held: Held[CasbinRules] = Given(made)
            else:
                self._held = rules
        except ValueError as error:
            raise ConfigError(f"the Casbin policy: {error}") from None
        self._asks_id = bool({"subject.id", "subject"} & set(request))

    def _judge(self, request: AccessRequest) -> Decision:
        rules = self._held.current()
        values = [get(request, NOTHING) for get in self._getters]
        if any(value is None for value in values):
            return undecided("missing_value", point=self.name)
        if self._asks_id and request.subject.id in rules.roles:
            return self._decision(Effect.DENY, ("subject_named_as_role",), rules)
        allowed, rule = rules.enforce(values)
        effect = Effect.PERMIT if allowed is True else Effect.DENY
        return self._decision(effect, (", ".join(rule),) if rule else (), rules)

    def _decision(self, effect: Effect, reasons: tuple[str, ...], rules: CasbinRules) -> Decision:
        return Decision(
            effect=effect, reasons=reasons, point=self.name, policy_version=rules.version
        )


def open_point(settings: Settings, surroundings: Surroundings) -> CasbinPolicy:
    """The rules of ``BEARER_POLICY_FILE``. Raises ``ConfigError``."""
    casbin = engine("casbin", "casbin", "casbin")
    said = members_of(settings.policy_options, _OPTIONS)
    if "model" not in said:
        raise ConfigError(_NEEDS_MODEL)
    request = said.get("request", _USUAL)
    sources = [
        ("BEARER_POLICY_FILE", settings.policy_file or ""),
        ("BEARER_POLICY_OPTIONS model", said["model"]),
    ]

    def compiled(rules: str, model: str) -> CasbinRules:
        return CasbinRules(casbin, rules, model, len(request))

    held = InFiles(sources, compiled, surroundings)
    return CasbinPolicy(held, request=request, surroundings=surroundings)


def _model(casbin: Any, text: str) -> Any:
    model = casbin.Model()
    try:
        model.load_model_from_text(text)
        complete = all(model[part][part] for part in ("r", "p", "e", "m"))
    except Exception:  # noqa: BLE001 - its words quote the policy
        complete = False
    if not complete:
        raise ValueError("the model cannot be read")
    return model


def _load(casbin: Any, model: Any, rules: str) -> None:
    """Casbin itself passes over what it does not know, and fails late over what is too short."""
    load = casbin.persist.adapter.load_policy_line
    for number, line in enumerate(map(str.strip, rules.split("\n")), 1):
        if not line or line.startswith("#"):
            continue
        kind = line.partition(",")[0].strip()
        part = model.model.get(kind[:1], {}).get(kind)
        try:
            if part is None:
                raise ValueError
            before = len(part.policy)
            load(line, model)
            width = len(part.tokens) if kind[0] == "p" else part.value.count("_")
            if any(len(rule) != width for rule in part.policy[before:]):
                raise ValueError
        except Exception:  # noqa: BLE001 - its words quote the policy
            raise ValueError(f"line {number}: is no rule of the model") from None


def _try_matcher(enforcer: Any, width: int) -> None:
    """A matcher that cannot be parsed is told of now."""
    try:
        enforcer.enforce_ex(*[""] * width)
    except SyntaxError:
        raise ValueError("the matcher of the model cannot be parsed") from None
    except Exception:  # noqa: BLE001 - there is nothing in such a request
        return


def _getter(written: str) -> Getter:
    if written in _ENTITIES:
        return _whole(written)
    return reference(written)


def _whole(name: str) -> Getter:
    return lambda request, facts: information(request).get(name, {})


def _request(value: object) -> tuple[str, ...]:
    written = parsing.listing(parsing.text, least=1)(value)
    for each in written:
        try:
            _getter(each)
        except ValueError as error:
            raise parsing.Unreadable(str(error)) from None
    return written


_OPTIONS: dict[str, Callable[[object], Any]] = {"model": parsing.path, "request": _request}
