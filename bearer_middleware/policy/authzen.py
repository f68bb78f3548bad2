"""A decision point that speaks OpenID AuthZEN: Authorization API 1.0.

    point = AuthZEN("https://pdp.example.com", token="...")

Its URL is its identifier, from which everything else is learnt; see :class:`AuthZEN` for those
that have no metadata, or unusual ones. The options of ``BEARER_POLICY_OPTIONS`` have the names of
its keywords.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from bearer_middleware.errors import ConfigError, TransportError
from bearer_middleware.flow.effects import Flow
from bearer_middleware.issuer.upstream import Upstream
from bearer_middleware.policy import told
from bearer_middleware.policy.authzen_metadata import APIS, Discovery, Endpoints, default_endpoints
from bearer_middleware.policy.authzen_search import Searches
from bearer_middleware.policy.authzen_signed import Signed
from bearer_middleware.policy.members import address, members_of
from bearer_middleware.policy.model import AccessRequest, Decision, Effect
from bearer_middleware.policy.point import Surroundings
from bearer_middleware.policy.remote import MAX_ANSWER, Remote, Remotely, Token, limit_for, reach
from bearer_middleware.policy.wire import Unsendable, encode, in_list
from bearer_middleware.policy.wire import told as written
from bearer_middleware.settings import Settings, files, grammar
from bearer_middleware.settings.parsing import integer, switch, text

_GONE = frozenset({"status 404", "status 405", "status 410"})
#: Members of a decision's context that we understand (sections 5.5 and 7.2.1, obligations profile).
_UNDERSTOOD = frozenset(
    {
        *("id", "reason", "reason_admin", "reason_user", "decision_id", "policy_version"),
        *("obligations", "acr_values", "max_age", "error"),
    }
)
_OPTIONS = {
    "subject_type": text,
    "strict_context": switch,
    "batch_size": integer(1, 1000),
    "discovery": switch,
    "metadata_url": grammar.url,
    "validate_pdp_id": switch,
    "signed_metadata": files.key_set,
    **{f"{api}_url": grammar.url for api in APIS},
}


class AuthZEN(Remotely, Searches):
    """Asks an AuthZEN decision point. ``url`` is its identifier (section 9), ``token`` what we show
    it as bearer token, ``timeout`` what a question may take, in seconds.

    ``subject_type`` replaces the type of every subject. With ``strict_context`` a permit whose
    context holds anything we do not understand is a denial (section 5.5). ``batch_size`` is how
    many questions go into one exchange. With ``discovery=False`` nothing is fetched: endpoints are
    where the standard has them, or given one by one, such as ``evaluation_url``. ``metadata_url``
    and ``validate_pdp_id=False`` are for metadata in unusual places and under another name.
    ``signed_metadata`` is a file with the keys of whoever signs the metadata: then nothing that is
    not signed is believed. Over http it is asked on this machine only, unless
    ``allow_insecure_http`` is true. Raises ``ConfigError``.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        timeout: float = 0.5,
        surroundings: Surroundings | None = None,
        name: str = "authzen",
        subject_type: str | None = None,
        strict_context: bool = False,
        batch_size: int = 50,
        discovery: bool = True,
        metadata_url: str | None = None,
        validate_pdp_id: bool = True,
        signed_metadata: str | None = None,
        allow_insecure_http: bool = False,
        **endpoints: str,
    ) -> None:
        read = partial(address, insecure=allow_insecure_http)
        url = read("url", url, grammar.issuer)
        known = _given_endpoints(endpoints, read)
        if metadata_url is not None:
            metadata_url = read("metadata_url", metadata_url, grammar.url)
        self._remote = Remote(name, token=token, timeout=timeout, surroundings=surroundings)
        self._subject_type, self._strict, self._batch = subject_type, strict_context, batch_size
        self._fixed = replace(default_endpoints(url), **known) if not discovery else None
        now = self._remote.surroundings.clock.now
        signed = None if signed_metadata is None else Signed(signed_metadata, now)
        self._discovery = Discovery(
            url,
            self._remote,
            url=metadata_url,
            validate=validate_pdp_id,
            signed=signed,
            given=known,
            insecure=allow_insecure_http,
        )

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """What stands between us and it, for health and metrics."""
        return self._remote.upstream, self._discovery.upstream

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        """One question to the Access Evaluation API (section 6). Never raises."""
        question = self._sendable(request)
        if question is None:
            return self._remote.denied("unsendable")
        return (yield from self._evaluate(question, self._remote.deadline(deadline), fresh))

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        """The Access Evaluations API (section 7): all are evaluated, ``batch_size`` at a time. What
        a shorter answer leaves out is denied, a longer one decides nothing. Never raises.
        """
        deadline = self._remote.deadline(deadline)
        decided: list[Decision] = []
        for start in range(0, len(requests), self._batch):
            chunk = requests[start : start + self._batch]
            decided += yield from self._evaluate_many(chunk, deadline, fresh)
        return decided

    def _evaluate(self, question: bytes, deadline: float, fresh: bool) -> Flow[Decision]:
        try:
            url = (yield from self._endpoints(deadline)).evaluation
            answer = yield from self._ask(url, question, deadline, fresh=fresh)
            return self._decision(answer)
        except TransportError as failure:
            return self._undecided(failure)

    def _evaluate_many(
        self, requests: Sequence[AccessRequest], deadline: float, fresh: bool
    ) -> Flow[list[Decision]]:
        questions = [self._sendable(request) for request in requests]
        sent = [question for question in questions if question is not None]
        try:
            answers = yield from self._answers(sent, deadline, fresh)
        except TransportError as failure:
            answers = [self._undecided(failure)] * len(sent)
        found, unsendable = iter(answers), self._remote.denied("unsendable")
        return [unsendable if question is None else next(found) for question in questions]

    def _answers(
        self, questions: list[bytes], deadline: float, fresh: bool
    ) -> Flow[list[Decision]]:
        if not questions:  # an empty list would be another question (section 7.1)
            return []
        endpoints = yield from self._endpoints(deadline)
        if len(questions) == 1 or endpoints.evaluations is None:
            decided: list[Decision] = []
            for each in questions:
                decision = yield from self._evaluate(each, deadline, fresh)
                decided.append(decision)
            return decided
        # Whole questions, without defaults for what they share: not everybody knows those.
        body = b'{"evaluations": ' + in_list(questions) + b"}"
        limit = limit_for(len(questions))
        answer = yield from self._ask(endpoints.evaluations, body, deadline, limit, fresh=fresh)
        items = answer.get("evaluations")
        if not isinstance(items, list) or len(items) > len(questions):
            raise TransportError("not as many answers")
        decided = [self._decision(item) for item in items]
        return decided + [self._remote.denied("unanswered")] * (len(questions) - len(items))

    def _ask(
        self,
        url: str | None,
        question: object,
        deadline: float,
        limit: int = MAX_ANSWER,
        *,
        fresh: bool = False,
    ) -> Flow[dict[str, Any]]:
        if url is None:
            raise TransportError("no such endpoint")
        try:
            return (yield from self._remote.ask(url, question, deadline, limit=limit, fresh=fresh))
        except TransportError as failure:
            if failure.detail in _GONE:
                self._discovery.doubt()
            raise

    def _endpoints(self, deadline: float) -> Flow[Endpoints]:
        if self._fixed is not None:
            return self._fixed
        return (yield from self._discovery.endpoints(deadline))

    def _sendable(self, request: AccessRequest) -> bytes | None:
        try:
            return encode(self._question(request))
        except Unsendable:
            return None

    def _question(self, request: AccessRequest) -> dict[str, Any]:
        """The members of the standard and no other: some refuse whatever they do not know."""
        question = written(request)
        if self._subject_type is not None:
            question["subject"]["type"] = self._subject_type
        return question

    def _undecided(self, failure: TransportError) -> Decision:
        decision = self._remote.undecided(failure)
        if failure.detail.startswith("metadata"):
            return replace(decision, retry_after=self._discovery.retry_after)
        return decision

    def _decision(self, answer: object) -> Decision:
        """Only ``true`` permits (section 5.5)."""
        if not isinstance(answer, Mapping) or not isinstance(answer.get("decision"), bool):
            raise TransportError("not a decision")
        effect = Effect.PERMIT if answer["decision"] is True else Effect.DENY
        context = answer.get("context")
        if context is None:  # as it mostly is; some write null for what is not there
            return Decision(effect=effect, point=self.name)
        return self._told(effect, context)

    def _told(self, effect: Effect, context: object) -> Decision:
        if not isinstance(context, Mapping):
            raise TransportError("not a decision")
        obliged = told.obligations(context.get("obligations"))
        reasons = told.words(context.get("reason"), context.get("reason_admin"))
        if effect is Effect.PERMIT and self._strict and not context.keys() <= _UNDERSTOOD:
            effect, reasons = Effect.DENY, ("context_not_understood", *reasons)
        if isinstance(error := context.get("error"), Mapping):  # section 7.2.1
            reasons += told.words("evaluation_failed", error.get("status"))
        return Decision(
            effect=effect,
            reasons=reasons,
            user_reason=told.sentence(context.get("reason_user")),
            obligations=obliged,
            acr_values=told.acr_values(context.get("acr_values"), obliged),
            max_age=told.max_age(context.get("max_age")),
            point=self.name,
            decision_id=told.word(context.get("decision_id", context.get("id"))),
            policy_version=told.word(context.get("policy_version")),
            context=context,
        )


def _given_endpoints(said: Mapping[str, str], read: Callable[..., str]) -> dict[str, str]:
    """By the names of the APIs."""
    unknown = said.keys() - {f"{api}_url" for api in APIS}
    if unknown:
        raise TypeError(f"AuthZEN() has no keyword {min(unknown)}")
    return {name.removesuffix("_url"): read(name, url, grammar.url) for name, url in said.items()}


def open_point(settings: Settings, surroundings: Surroundings) -> AuthZEN:
    """The decision point of the settings. Raises ``ConfigError``."""
    options = members_of(settings.policy_options, _OPTIONS)
    if settings.policy_url is None or "?" in settings.policy_url:
        raise ConfigError("BEARER_POLICY_URL: must be the identifier of a decision point")
    return AuthZEN(
        settings.policy_url,
        **reach(settings, surroundings),
        **options,
    )
