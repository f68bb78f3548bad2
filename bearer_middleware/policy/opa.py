"""An Open Policy Agent, asked over its data API.

    point = Opa("http://localhost:8181", decision_path="httpapi/authz/allow")

The rule's ``input`` is the request in AuthZEN's information model (``input.subject.id``,
``input.action.name``, ``input.resource.type``, ``input.context``), or what ``input`` makes of it.
Its result is ``true`` or ``false``, or an object with ``allow`` and, where it has more to say,
``reason``, ``user_reason``, ``obligations``, ``acr_values`` and ``max_age``. A rule that is
undefined is no denial, and no permit either. The options of ``BEARER_POLICY_OPTIONS`` have the
names of the keywords of :class:`Opa`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from bearer_middleware.errors import ConfigError, TransportError
from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy import told
from bearer_middleware.policy.members import address, given, members_of
from bearer_middleware.policy.model import AccessRequest, Decision, Effect
from bearer_middleware.policy.point import Surroundings
from bearer_middleware.policy.remote import Remote, Remotely, Token, limit_for, reach
from bearer_middleware.policy.verdict import UNDEFINED, verdict
from bearer_middleware.policy.wire import Unsendable, encode, in_list
from bearer_middleware.policy.wire import told as written
from bearer_middleware.settings import Settings, grammar
from bearer_middleware.settings.parsing import Unreadable, integer, switch, table, text

_DATA = "/v1/data"
_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_REFERENCE = re.compile(r"\$(subject|action|resource|context)((\.[A-Za-z0-9_-]+)*)")


def _rule(value: object) -> str:
    path = text(value).strip("/").removeprefix("v1/data/")
    if not _PATH.fullmatch(path):
        raise Unreadable("must be the path of a rule, such as httpapi/authz/allow")
    return path


def _input(value: object) -> Mapping[str, Any]:
    mapping = table(value)
    for leaf in _leaves(mapping):
        if isinstance(leaf, str) and leaf.startswith("$") and not _REFERENCE.fullmatch(leaf):
            raise Unreadable("may refer to $subject, $action, $resource and $context alone")
    return mapping


def _leaves(value: object) -> list[object]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


_OPTIONS = {
    "decision_path": _rule,
    "batch_path": _rule,
    "result_key": text,
    "input": _input,
    "provenance": switch,
    "most": integer(1, 1000),
}


class Opa(Remotely):
    """Asks an Open Policy Agent. ``decision_path`` is the rule's path below ``/v1/data``; ``url``
    may hold it as well. ``timeout`` is what a question may take, in seconds.

    ``result_key`` is the member of an object that says yes or no. ``input`` maps names to values,
    of which ``$resource.id`` and the like are filled in. ``provenance`` asks for the revision of
    the policy. ``batch_path`` is a rule that answers ``{"evaluations": [input, ...]}`` with a list;
    without it many questions are asked one after another, and those beyond ``most`` not at all.
    Over http it is asked on this machine only, unless ``allow_insecure_http`` is true. Raises
    ``ConfigError``.
    """

    def __init__(
        self,
        url: str,
        *,
        decision_path: str | None = None,
        token: Token = None,
        timeout: float = 0.5,
        surroundings: Surroundings | None = None,
        name: str = "opa",
        result_key: str = "allow",
        input: Mapping[str, Any] | None = None,  # noqa: A002 - OPA's name for it
        provenance: bool = False,
        batch_path: str | None = None,
        most: int = 100,
        allow_insecure_http: bool = False,
    ) -> None:
        url = address("url", url, grammar.issuer, insecure=allow_insecure_http).rstrip("/")
        base, _, in_url = url.partition(f"{_DATA}/")
        path = decision_path or in_url
        if not path or (decision_path and in_url):
            raise ConfigError(
                "BEARER_POLICY_OPTIONS: decision_path must be the path of a rule, such as "
                "httpapi/authz/allow; or the URL of the decision point ends with /v1/data/ and it"
            )
        query = "?provenance=true" if provenance else ""
        self._url = f"{base}{_DATA}/{given('decision_path', _rule, path)}{query}"
        self._many: str | None = None
        if batch_path is not None:
            self._many = f"{base}{_DATA}/{given('batch_path', _rule, batch_path)}{query}"
        self._remote = Remote(name, token=token, timeout=timeout, surroundings=surroundings)
        self._input = None if input is None else given("input", _input, input)
        self._key, self._most = result_key, most

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        """One query of the rule. Never raises."""
        try:
            question = encode({"input": self._told(request)})
            deadline = self._remote.deadline(deadline)
            answer = yield from self._remote.ask(self._url, question, deadline, fresh=fresh)
            return self._decision(answer, answer.get("result", UNDEFINED))
        except Unsendable:
            return self._remote.denied("unsendable")
        except TransportError as failure:
            return self._remote.undecided(failure)

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        """One query of the rule for many, or one query each, within one deadline. Never raises."""
        deadline = self._remote.deadline(deadline)
        if self._many is not None and len(requests) > 1:
            return (yield from self._decide_together(self._many, requests, deadline, fresh))
        decided: list[Decision] = []
        for request in requests[: self._most]:
            decision = yield from self.decide(request, deadline, fresh=fresh)
            decided.append(decision)
        spare = len(requests) - len(decided)
        return decided + [self._remote.undecided(TransportError("too many questions"))] * spare

    def _decide_together(
        self, url: str, requests: Sequence[AccessRequest], deadline: float, fresh: bool
    ) -> Flow[list[Decision]]:
        questions = [self._sendable(request) for request in requests]
        sent = [question for question in questions if question is not None]
        try:
            answers = (yield from self._answers(url, sent, deadline, fresh)) if sent else []
        except TransportError as failure:
            answers = [self._remote.undecided(failure)] * len(sent)
        found, unsendable = iter(answers), self._remote.denied("unsendable")
        return [unsendable if question is None else next(found) for question in questions]

    def _answers(
        self, url: str, questions: list[bytes], deadline: float, fresh: bool
    ) -> Flow[list[Decision]]:
        body = b'{"input": {"evaluations": ' + in_list(questions) + b"}}"
        limit = limit_for(len(questions))
        answer = yield from self._remote.ask(url, body, deadline, limit=limit, fresh=fresh)
        items = answer.get("result", UNDEFINED)
        if items is UNDEFINED:
            return [self._decision(answer, items)] * len(questions)
        if not isinstance(items, list) or len(items) > len(questions):
            raise TransportError("not as many answers")
        decided = [self._decision(answer, item) for item in items]
        return decided + [self._remote.denied("unanswered")] * (len(questions) - len(items))

    def _sendable(self, request: AccessRequest) -> bytes | None:
        try:
            return encode(self._told(request))
        except Unsendable:
            return None

    def _told(self, request: AccessRequest) -> Any:
        model = written(request)
        return model if self._input is None else _filled(self._input, model)

    def _decision(self, answer: Mapping[str, Any], result: object) -> Decision:
        """Only ``true`` permits. What is undefined is a rule that does not apply."""
        version = _revision(answer.get("provenance"))
        decision = verdict(result, point=self.name, version=version, key=self._key)
        if decision.effect is Effect.INDETERMINATE:
            raise TransportError("not a decision")
        return replace(decision, decision_id=told.word(answer.get("decision_id")))


def _filled(template: Any, model: Mapping[str, Any]) -> Any:
    """The template with its references filled in. What they name and is not there is left out."""
    if isinstance(template, Mapping):
        filled = {name: _filled(item, model) for name, item in template.items()}
        return {name: item for name, item in filled.items() if item is not None}
    if isinstance(template, list):
        return [_filled(item, model) for item in template]
    if not isinstance(template, str) or not _REFERENCE.fullmatch(template):
        return template
    found: Any = model
    for name in template[1:].split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _revision(provenance: object) -> str | None:
    """The revision of the bundle, or those of several: ``name=revision``, in order."""
    if not isinstance(provenance, Mapping):
        return None
    bundles = provenance.get("bundles")
    if not isinstance(bundles, Mapping) or not bundles:
        return told.word(provenance.get("revision"))
    named = {
        name: told.word(bundle.get("revision"))
        for name, bundle in sorted(bundles.items())
        if isinstance(bundle, Mapping)
    }
    if len(named) == 1:
        return next(iter(named.values()))
    return told.word(",".join(f"{name}={revision}" for name, revision in named.items()))


def open_point(settings: Settings, surroundings: Surroundings) -> Opa:
    """The decision point of the settings. Raises ``ConfigError``."""
    options = members_of(settings.policy_options, _OPTIONS)
    if settings.policy_url is None or urlsplit(settings.policy_url).query:
        raise ConfigError("BEARER_POLICY_URL: must be an address without a query")
    return Opa(
        settings.policy_url,
        **reach(settings, surroundings),
        **options,
    )
