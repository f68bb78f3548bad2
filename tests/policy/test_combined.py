"""Truth tables of what combines decision points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from bearer_middleware.flow.drivers import run
from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy.combined import AllOf, FirstApplicable
from bearer_middleware.policy.model import AccessRequest, Decision, Effect, Obligation
from bearer_middleware.policy.point import AtOnce, InProcess
from tests.policy.asking import ask

P, D, N, I = Effect.PERMIT, Effect.DENY, Effect.NOT_APPLICABLE, Effect.INDETERMINATE  # noqa: E741


class Fixed(InProcess):
    """Says what it was told to, and counts how often."""

    def __init__(self, decision: Decision | Effect, name: str = "fixed") -> None:
        self.name, self.times = name, 0
        self.decision = decision if isinstance(decision, Decision) else Decision(effect=decision)

    def judge(self, request: AccessRequest) -> Decision:
        self.times += 1
        return self.decision


class Remote:
    """The same, but it has to be asked."""

    def __init__(self, *effects: Effect) -> None:
        self.name, self.effects = "remote", effects
        self.batches: list[int] = []

    def decide(
        self, request: AccessRequest, deadline: float, *, fresh: bool = False
    ) -> Flow[Decision]:
        (decision,) = yield from self.decide_many([request], deadline, fresh=fresh)
        return decision

    def decide_many(
        self, requests: Sequence[AccessRequest], deadline: float, *, fresh: bool = False
    ) -> Flow[list[Decision]]:
        yield from ()
        self.batches.append(len(requests))
        return [Decision(effect=self.effects[int(each.resource.id)]) for each in requests]


def all_of(effects: tuple[Effect, ...]) -> Effect:
    """XACML 3.0 C.2, with permits that must be unanimous."""
    return next((effect for effect in (D, I, N) if effect in effects), P)


def first_of(effects: tuple[Effect, ...]) -> Effect:
    """XACML 3.0 C.8."""
    return next((effect for effect in effects if effect is not N), N)


TABLE = [effects for count in (1, 2, 3) for effects in product((P, D, N, I), repeat=count)]


@pytest.mark.parametrize(
    ("combine", "truth"), [(AllOf, all_of), (FirstApplicable, first_of)], ids=["all", "first"]
)
def test_truth_tables(combine: type[AllOf | FirstApplicable], truth: object) -> None:
    """One, two and three parts: at once, as a flow, and as a part of a batch."""
    assert callable(truth)
    for effects in TABLE:
        local = combine(*map(Fixed, effects))
        assert isinstance(local, AtOnce)
        assert local.judge(ask()).effect is truth(effects), effects
        remote = combine(*(Remote(effect) for effect in effects))
        assert not isinstance(remote, AtOnce)
        asked = ask(resource="0")
        assert run(remote.decide(asked, 1e9)).effect is truth(effects), effects
    several = [effects for effects in TABLE if len(effects) == 3]
    points = [Remote(*column) for column in zip(*several, strict=True)]
    batch = [ask(resource=str(number)) for number in range(len(several))]
    decisions = run(combine(*points).decide_many(batch, 1e9))
    assert [each.effect for each in decisions] == [truth(effects) for effects in several]
    assert all(len(point.batches) == 1 for point in points)


def test_nobody_is_asked_in_vain() -> None:
    """A denial settles it, for one; the first that applies, for the other."""
    later = Fixed(P)
    AllOf(Fixed(D), later).judge(ask())
    FirstApplicable(Fixed(P), later).judge(ask())
    FirstApplicable(Fixed(I), later).judge(ask())
    assert later.times == 0
    AllOf(Fixed(I), later).judge(ask())
    AllOf(Fixed(N), later).judge(ask())
    FirstApplicable(Fixed(N), later).judge(ask())
    assert later.times == 3
    remote = Remote(P, P)
    denies_first = Remote(D, P)
    run(AllOf(denies_first, remote).decide_many([ask(resource="0"), ask(resource="1")], 1e9))
    assert remote.batches == [1]
    nobody = Remote(P)
    assert run(AllOf(Remote(D), nobody).decide_many([ask(resource="0")], 1e9))[0].effect is D
    assert nobody.batches == []


def test_a_permit_of_all_has_the_obligations_of_all() -> None:
    """And the reasons and versions: all of them had to say so."""
    one = Decision(
        effect=P, reasons=("a",), obligations=(Obligation("x"),), policy_version="1", age=3
    )
    other = Decision(
        effect=P, reasons=("b",), obligations=(Obligation("y"),), policy_version="2", cached=True
    )
    point = AllOf(Fixed(one, "one"), Fixed(other, "other"))
    decision = point.judge(ask())
    assert decision.reasons == ("a", "b")
    assert decision.obligations == (Obligation("x"), Obligation("y"))
    assert decision.policy_version == "1+2"
    assert (decision.cached, decision.age) == (True, 3)
    assert decision.point == point.name == "all_of(one, other)"
    assert point.name in repr(point)


def test_nobody_authenticates_in_vain() -> None:
    """STEP-2: a denial that stronger authentication would lift gives way to one that it would
    not.
    """
    weak = Decision(effect=D, acr_values=("loa2",), reasons=("weak",))
    plain = Decision(effect=D, reasons=("plain",))
    assert AllOf(Fixed(weak), Fixed(plain)).judge(ask()).reasons == ("plain",)
    assert AllOf(Fixed(weak), Fixed(P)).judge(ask()).acr_values == ("loa2",)
    assert AllOf(Fixed(weak), Fixed(I)).judge(ask()).effect is D
    old = Decision(effect=D, max_age=300)
    assert AllOf(Fixed(old), Fixed(N)).judge(ask()).max_age == 300


@pytest.mark.parametrize("combine", [AllOf, FirstApplicable])
def test_of_nothing(combine: type[AllOf | FirstApplicable]) -> None:
    """Nothing to combine is a mistake, and not a permit of all none of them."""
    with pytest.raises(ValueError, match="needs a decision point"):
        combine()
    assert run(combine(Fixed(P)).decide_many([], 1e9)) == []


class Odd(Fixed):
    """Returns what is no decision, or raises it."""

    def __init__(self, said: object) -> None:
        super().__init__(P, "odd")
        self.said = said

    def judge(self, request: AccessRequest) -> Decision:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said  # type: ignore[return-value]


class Apart:
    """Another point, without its plain call."""

    def __init__(self, point: InProcess) -> None:
        self.name, self.decide, self.decide_many = "apart", point.decide, point.decide_many


ODD = [True, None, Decision(effect="permit"), Decision(effect="deny"), RuntimeError()]  # type: ignore[arg-type]


@pytest.mark.parametrize("said", ODD)
@pytest.mark.parametrize("wrap", [lambda point: point, Apart])
@pytest.mark.parametrize("combine", [AllOf, FirstApplicable])
def test_what_is_no_decision_permits_nothing(combine: Any, wrap: Any, said: object) -> None:
    """AZ-2"""
    point = combine(Fixed(N if combine is FirstApplicable else P), wrap(Odd(said)))
    assert run(point.decide(ask(), 1.0)).effect is I
    if isinstance(point, AtOnce):
        assert point.judge(ask()).effect is I
    (decision,) = run(point.decide_many([ask()], 1.0))
    assert decision.effect is I


def test_a_denial_wins_over_a_part_that_raises() -> None:
    """Or a route that lets in while nobody can decide would let in whom one denies."""
    point = AllOf(Odd(RuntimeError()), Fixed(D))
    assert run(point.decide(ask(), 1.0)).effect is D
    assert isinstance(point, AtOnce)
    assert point.judge(ask()).effect is D
