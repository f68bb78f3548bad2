"""What a decision point may do wrong, on every adapter and in every world: never a pass."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from bearer_middleware.flow.drivers import arun
from bearer_middleware.flow.transport import HttpTransport
from bearer_middleware.policy.authzen import AuthZEN
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
    Subject,
)
from bearer_middleware.policy.opa import Opa
from bearer_middleware.policy.permit import Permit

DEBUG = "Traceback (most recent call last): rule data.internal.secret_rule"


@dataclass(frozen=True)
class Adapter:
    """How to build one, and how its decision point says what."""

    build: Callable[..., Any]
    member: str
    many: Callable[[list[Any]], Any]

    def body(self, value: Any) -> bytes:
        return json.dumps({self.member: value}).encode()


ADAPTERS = {
    "authzen": Adapter(
        lambda url, **more: AuthZEN(url, discovery=False, **more),
        "decision",
        lambda items: {"evaluations": [{"decision": item} for item in items]},
    ),
    "permit": Adapter(Permit, "allow", lambda items: {"allow": [{"allow": i} for i in items]}),
    "opa": Adapter(
        lambda url, **more: Opa(url, decision_path="a/allow", batch_path="a/many", **more),
        "result",
        lambda items: {"result": items},
    ),
}


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each in turn."""
    return ADAPTERS[request.param]


def asked(number: int = 1) -> AccessRequest:
    """May alice read a document?"""
    return AccessRequest(Subject("user", "alice"), Action("read"), Resource("doc", str(number)))


def assert_undecided(decision: Decision, error: str | None = None) -> None:
    """Nobody passes, and nothing of what was answered is told."""
    assert decision.effect is Effect.INDETERMINATE
    assert not decision.permitted
    assert decision.error
    assert error is None or decision.error == error
    assert decision.retry_after >= 1
    told = repr(decision) + repr(dict(decision.context))
    assert "secret_rule" not in told
    assert decision.user_reason is None


@pytest.mark.parametrize("status", [201, 204, 400, 401, 403, 404, 413, 422, 429, 500, 502, 503])
def test_a_status_decides_nothing(pdp: Any, ask: Any, adapter: Adapter, status: int) -> None:
    """AZ-4. Whatever the status, a permit in its body counts as little as a denial."""
    pdp.otherwise = pdp.wire(adapter.body(True), status=status)
    decision = ask(adapter.build(pdp.url, timeout=30).decide(asked(), pdp.soon()))
    assert_undecided(decision, f"status_{status}")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(pdp: Any, ask: Any, adapter: Adapter, status: int) -> None:
    """AZ-4. Not even to a permit: our credentials would go along."""
    pdp.otherwise = lambda seen: (
        pdp.wire(adapter.body(True))
        if seen.path == "/yes"
        else pdp.wire(status=status, location=f"{pdp.url}/yes")
    )
    decision = ask(adapter.build(pdp.url, token="s3cret", timeout=30).decide(asked(), pdp.soon()))
    assert_undecided(decision, f"status_{status}")
    assert len(pdp.seen) == 1


def test_429_says_when_to_come_back(pdp: Any, ask_here: Any, adapter: Adapter) -> None:
    """AZ-4. Its ``Retry-After`` becomes ours, and until then it is not asked at all."""
    pdp.otherwise = pdp.wire(status=429, retry_after="7")
    point = adapter.build(pdp.url, timeout=30)
    assert 6 < ask_here(point.decide(asked(), pdp.soon())).retry_after <= 7
    again = ask_here(point.decide(asked(), pdp.soon()))
    assert_undecided(again, "shed")
    assert again.retry_after > 6
    assert len(pdp.seen) == 1


ODD_BODIES = {
    "nothing": b"",
    "html": b"<html>",
    "debug text": DEBUG.encode(),
    "null": b"null",
    "true": b"true",
    "list": b"[true]",
    "text": b'"true"',
    "half": b'{"decision": true, "allow": true, "result": true',
    "more": b'{"decision": true, "allow": true, "result": true} {}',
    "latin-1": b'{"decision": true, "allow": true, "result": true, "x": "\xe4"}',
    "utf-16": json.dumps({"decision": True, "allow": True, "result": True}).encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"decision": true, "allow": true, "result": true}',
    "nan": b'{"decision": true, "allow": true, "result": true, "x": NaN}',
    "twice": b'{"decision": false, "decision": true, "allow": false, "allow": true, '
    b'"result": false, "result": true}',
    "deep": b'{"decision": true, "allow": true, "result": true, "x": '
    + b"[" * 600
    + b"]" * 600
    + b"}",
    "half a character": b'{"decision": true, "allow": true, "result": true, "x": "\\ud800"}',
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
def test_what_is_no_strict_json_object_decides_nothing(
    pdp: Any, ask: Any, adapter: Adapter, body: bytes
) -> None:
    """AZ-2, AZ-9."""
    pdp.otherwise = pdp.wire(body)
    assert_undecided(
        ask(adapter.build(pdp.url, timeout=30).decide(asked(), pdp.soon())), "not_json"
    )


@pytest.mark.parametrize("value", ["true", "True", "", 1, 0, 1.0, None, [], [True]], ids=repr)
def test_only_a_boolean_decides(pdp: Any, ask: Any, adapter: Adapter, value: Any) -> None:
    """AZ-2. What is nearly true is no answer."""
    pdp.otherwise = pdp.wire(adapter.body(value))
    decision = ask(adapter.build(pdp.url, timeout=30).decide(asked(), pdp.soon()))
    assert_undecided(decision, "not_a_decision")


def test_true_permits_and_false_denies(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """AZ-2."""
    for value, effect in ((True, Effect.PERMIT), (False, Effect.DENY)):
        pdp.otherwise = pdp.wire(adapter.body(value))
        decision = ask(adapter.build(pdp.url, timeout=30).decide(asked(), pdp.soon()))
        assert decision.effect is effect
        assert decision.point == adapter.build(pdp.url).name


def test_an_empty_object_is_no_permit(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """AZ-2. To OPA it says that no rule applies."""
    pdp.otherwise = pdp.wire(b"{}")
    decision = ask(adapter.build(pdp.url, timeout=30).decide(asked(), pdp.soon()))
    undefined = adapter.member == "result"
    assert decision.effect is (Effect.NOT_APPLICABLE if undefined else Effect.INDETERMINATE)


def test_another_content_type_is_not_read(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """A page that happens to be JSON is no answer; nor is what was compressed unasked."""
    for headers, word in (
        ({"content_type": "text/plain"}, "not_json"),
        ({"content_encoding": "gzip"}, "compressed"),
    ):
        pdp.otherwise = pdp.wire(adapter.body(True), **headers)
        decision = ask(adapter.build(pdp.url, timeout=30).decide(asked(), pdp.soon()))
        assert_undecided(decision, word)


# httpcore leaves its own generator of chunks to the collector, of which trio warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_megabytes_are_not_read(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """However well it begins."""
    padded = json.dumps({adapter.member: True, "x": "x" * 70_000}).encode()
    pdp.otherwise = pdp.wire(padded)
    decision = ask(adapter.build(pdp.url, timeout=30).decide(asked(), pdp.soon()))
    assert_undecided(decision, "too_large")


# httpcore leaves its own generator of chunks to the collector, of which trio warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("pause", [0.02, 60.0], ids=["drips", "is slow"])
def test_time_is_up_as_a_whole(pdp: Any, ask: Any, adapter: Adapter, pause: float) -> None:
    """AZ-4. The time limit is one of all the exchange; the caller's own counts as well."""
    pdp.otherwise, pdp.pause = pdp.wire(adapter.body(True)), pause
    decision = ask(adapter.build(pdp.url, timeout=0.1).decide(asked(), pdp.soon()))
    assert_undecided(decision, "timeout")


def test_a_deadline_that_is_over(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """Nobody is asked."""
    assert_undecided(ask(adapter.build(pdp.url).decide(asked(), 0.0)), "timeout")
    decisions = ask(adapter.build(pdp.url).decide_many([asked(), asked(2)], 0.0))
    assert [decision.error for decision in decisions] == ["timeout", "timeout"]
    assert pdp.seen == []


def test_nobody_is_there(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """AZ-4."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    point = adapter.build(f"http://127.0.0.1:{port}", timeout=30)
    assert_undecided(ask(point.decide(asked(), pdp.soon())), "connect")


def test_it_is_left_alone_once_it_has_failed_often(
    pdp: Any, ask_here: Any, adapter: Adapter
) -> None:
    """The breaker opens: a decision point that is down costs nobody its time limit."""
    pdp.otherwise = pdp.wire(status=500)
    point = adapter.build(pdp.url, timeout=30)
    errors = [ask_here(point.decide(asked(), pdp.soon())).error for _ in range(20)]
    assert errors[0] == "status_500"
    assert errors[-1] == "shed"
    assert len(pdp.seen) < 20


# -- many at once ----------------------------------------------------------------------------


def test_a_batch_is_answered_in_its_order(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """AZ-5. One exchange for all."""
    pdp.otherwise = pdp.wire(adapter.many([True, False, True]))
    requests = [asked(1), asked(2), asked(3)]
    decisions = ask(adapter.build(pdp.url, timeout=30).decide_many(requests, pdp.soon()))
    assert [d.effect for d in decisions] == [Effect.PERMIT, Effect.DENY, Effect.PERMIT]
    assert len(pdp.seen) == 1


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_what_a_shorter_answer_leaves_out_is_denied(
    pdp: Any, ask: Any, adapter: Adapter, answered: int
) -> None:
    """AZ-5."""
    pdp.otherwise = pdp.wire(adapter.many([True] * answered))
    requests = [asked(1), asked(2), asked(3)]
    decisions = ask(adapter.build(pdp.url, timeout=30).decide_many(requests, pdp.soon()))
    effects = [Effect.PERMIT] * answered + [Effect.DENY] * (3 - answered)
    assert [decision.effect for decision in decisions] == effects
    assert decisions[-1].reasons == ("unanswered",)


@pytest.mark.parametrize("items", [[True] * 4, ["true", True, True], [None] * 3, [True, 1, True]])
def test_a_longer_or_odd_answer_decides_nothing(
    pdp: Any, ask: Any, adapter: Adapter, items: list[Any]
) -> None:
    """AZ-5. Nobody knows which is whose."""
    pdp.otherwise = pdp.wire(adapter.many(items))
    requests = [asked(1), asked(2), asked(3)]
    decisions = ask(adapter.build(pdp.url, timeout=30).decide_many(requests, pdp.soon()))
    assert len(decisions) == 3
    for decision in decisions:
        assert_undecided(decision)


@pytest.mark.parametrize("value", [True, {}, {"0": True}, "x", None], ids=repr)
def test_a_batch_that_is_no_list_decides_nothing(
    pdp: Any, ask: Any, adapter: Adapter, value: Any
) -> None:
    """AZ-5."""
    told = {"evaluations": value, "allow": value, "result": value, "decision": True}
    pdp.otherwise = pdp.wire(told)
    requests = [asked(1), asked(2)]
    for decision in ask(adapter.build(pdp.url, timeout=30).decide_many(requests, pdp.soon())):
        assert_undecided(decision, "not_as_many_answers")


@pytest.mark.parametrize("status", [400, 401, 422, 500])
def test_a_status_decides_nothing_of_a_batch(
    pdp: Any, ask: Any, adapter: Adapter, status: int
) -> None:
    """AZ-4, AZ-5."""
    pdp.otherwise = pdp.wire(adapter.many([True, True]), status=status)
    requests = [asked(1), asked(2)]
    for decision in ask(adapter.build(pdp.url, timeout=30).decide_many(requests, pdp.soon())):
        assert_undecided(decision, f"status_{status}")


def test_nothing_asked_is_nothing_sent(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """AZ-5. An empty list of evaluations would be one question of another kind."""
    assert ask(adapter.build(pdp.url, timeout=30).decide_many([], pdp.soon())) == []
    assert pdp.seen == []


# -- what is sent ----------------------------------------------------------------------------


def test_what_every_question_carries(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """AZ-1, AZ-7. Our credentials, a fresh number, and whether a cache may answer."""
    pdp.otherwise = pdp.wire(adapter.body(True))
    point = adapter.build(pdp.url, token="s3cret", timeout=30)
    ask(point.decide(asked(), pdp.soon()))
    ask(point.decide(asked(), pdp.soon(), fresh=True))
    one, other = (seen.headers for seen in pdp.seen)
    assert one["content-type"] == "application/json"
    assert one["authorization"] == "Bearer s3cret"
    assert one["x-request-id"] != other["x-request-id"]
    assert "cache-control" not in one
    assert other["cache-control"] == "no-cache"


def test_another_request_id_is_logged(
    pdp: Any, ask: Any, adapter: Adapter, caplog: pytest.LogCaptureFixture
) -> None:
    """AZ-7. Real ones have a number of their own, so it is no error."""
    caplog.set_level("INFO", "bearer_middleware")
    pdp.otherwise = lambda seen: pdp.wire(
        adapter.body(True), x_request_id=seen.headers["x-request-id"]
    )
    point = adapter.build(pdp.url, timeout=30)
    assert ask(point.decide(asked(), pdp.soon())).permitted
    assert not caplog.records
    pdp.otherwise = pdp.wire(adapter.body(True), x_request_id="theirs")
    assert ask(point.decide(asked(), pdp.soon())).permitted
    assert ask(point.decide(asked(), pdp.soon())).permitted
    assert [record.event for record in caplog.records] == ["policy_request_id"]  # type: ignore[attr-defined]
    assert "theirs" not in caplog.text


def test_refused_credentials_are_an_error_in_the_log(
    pdp: Any, ask: Any, adapter: Adapter, caplog: pytest.LogCaptureFixture
) -> None:
    """AZ-4. A 401 is about us, and whoever runs this has to know; without the credentials."""
    pdp.otherwise = pdp.wire(DEBUG.encode(), status=401)
    point = adapter.build(pdp.url, token="s3cret", timeout=30)
    assert_undecided(ask(point.decide(asked(), pdp.soon())), "status_401")
    assert "BEARER_POLICY_TOKEN" in caplog.text
    assert "s3cret" not in caplog.text + repr(point) + repr(vars(point))
    assert "secret_rule" not in caplog.text


def test_credentials_may_be_made_for_each_question(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """A source of tokens; one that fails leaves the question unasked."""
    pdp.otherwise = pdp.wire(adapter.body(True))
    made = iter(["one", "two", None, "bad\r\nx: y"])
    point = adapter.build(pdp.url, token=lambda: next(made), timeout=30)
    errors = [ask(point.decide(asked(), pdp.soon())).error for _ in range(5)]
    assert errors == [None, None, "no_credentials", "no_credentials", "no_credentials"]
    sent = [seen.headers["authorization"] for seen in pdp.seen]
    assert sent == ["Bearer one", "Bearer two"]


UNSENDABLE = {
    "half a character": "\ud800",
    "nan": float("nan"),
    "infinity": float("inf"),
    "bytes": b"x",
    "object": object(),
    "name": {1: "x"},
    "mixed": {1, "x"},
}


@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_is_not_i_json_is_denied(pdp: Any, ask: Any, adapter: Adapter, value: Any) -> None:
    """AZ-9. Nobody can bring about an indecision, which a rule may let pass, by an odd value."""
    pdp.otherwise = pdp.wire(adapter.many([True, True]))
    odd = AccessRequest(asked().subject, Action("read"), Resource("doc", "1", {"x": value}))
    point = adapter.build(pdp.url, timeout=30)
    assert ask(point.decide(odd, pdp.soon())).reasons == ("unsendable",)
    assert pdp.seen == []
    decisions = ask(point.decide_many([asked(), odd, asked()], pdp.soon()))
    effects = [Effect.PERMIT, Effect.DENY, Effect.PERMIT]
    assert [decision.effect for decision in decisions] == effects


def test_what_i_json_cannot_hold_is_told_otherwise(pdp: Any, ask: Any, adapter: Adapter) -> None:
    """AZ-9. No null; a number beyond 2^53 is a text."""
    pdp.otherwise = pdp.wire(adapter.body(True))
    odd = {"n": None, "big": 2**53, "small": -(2**60), "most": 2**53 - 1, "in": [None, {"n": None}]}
    request = AccessRequest(Subject("user", "alice", odd), Action("read"), Resource("doc", "1"))
    assert ask(adapter.build(pdp.url, timeout=30).decide(request, pdp.soon())).permitted
    kept = {"big": str(2**53), "small": str(-(2**60)), "most": 2**53 - 1, "in": [{}]}
    assert b"null" not in pdp.seen[0].body
    assert json.dumps(kept).encode() in pdp.seen[0].body


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_a_source_of_tokens_that_hangs(pdp: Any, adapter: Adapter, library: str) -> None:
    """AZ-4. Its time is part of the question's; it is cancelled, and not left behind."""
    pdp.otherwise = pdp.wire(adapter.body(True))
    ended = []

    async def token() -> str:
        try:
            await anyio.sleep(60)
        finally:
            ended.append(True)
        return "late"

    async def one() -> Decision:
        point = adapter.build(pdp.url, token=token, timeout=0.1)
        decision: Decision = await arun(point.decide(asked(), pdp.soon()), HttpTransport())
        return decision

    began = time.monotonic()
    assert_undecided(anyio.run(one, backend=library), "timeout")
    assert time.monotonic() - began < 30
    assert ended == [True]
    assert pdp.seen == []
