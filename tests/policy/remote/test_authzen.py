"""AuthZEN: what is sent, what is read, and where it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from bearer_middleware import ConfigError, Settings
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Tls
from bearer_middleware.policy.authzen import AuthZEN
from bearer_middleware.policy.authzen_metadata import metadata_urls
from bearer_middleware.policy.model import (
    AccessRequest,
    Action,
    Decision,
    Effect,
    Resource,
    Subject,
)
from bearer_middleware.policy.opa import Opa
from bearer_middleware.policy.opening import open_point
from bearer_middleware.policy.permit import Permit
from bearer_middleware.policy.point import Surroundings

SCHEMAS = Path(__file__).parents[4] / "shared/vectors/authzen"
EVALUATION = "/access/v1/evaluation"
EVALUATIONS = "/access/v1/evaluations"
WELL_KNOWN = "/.well-known/authzen-configuration"

ALICE = Subject("user", "alice", {"email": "alice@example.com", "department": None})
REQUEST = AccessRequest(
    ALICE, Action("read", {"method": "GET"}), Resource("todo", "1"), {"ip": "192.0.2.1"}
)


@pytest.fixture
def point(pdp: Any) -> AuthZEN:
    """Where nothing has to be discovered."""
    return AuthZEN(pdp.url, timeout=30, discovery=False)


@pytest.fixture
def decide(pdp: Any, ask_here: Any) -> Callable[..., Decision]:
    """What becomes of this answer."""

    def one(answer: Any, **options: Any) -> Decision:
        pdp.answers[EVALUATION] = answer
        point = AuthZEN(pdp.url, timeout=30, discovery=False, **options)
        decision: Decision = ask_here(point.decide(REQUEST, pdp.soon()))
        return decision

    return one


# -- the question ----------------------------------------------------------------------------


def test_the_golden_question(pdp: Any, ask: Any, point: AuthZEN) -> None:
    """AZ-1, AZ-9. The members of the standard and no other; what is not there is left out."""
    pdp.answers[EVALUATION] = {"decision": True}
    assert ask(point.decide(REQUEST, pdp.soon())).permitted
    assert pdp.seen[0].method == "POST"
    assert pdp.seen[0].json == {
        "subject": {"type": "user", "id": "alice", "properties": {"email": "alice@example.com"}},
        "action": {"name": "read", "properties": {"method": "GET"}},
        "resource": {"type": "todo", "id": "1"},
        "context": {"ip": "192.0.2.1"},
    }


def test_the_smallest_question(pdp: Any, ask_here: Any, point: AuthZEN) -> None:
    """AZ-1. GET /todos/1 by alice, byte for byte."""
    pdp.answers[EVALUATION] = {"decision": True}
    request = AccessRequest(Subject("user", "alice"), Action("read"), Resource("todo", "1"))
    ask_here(point.decide(request, pdp.soon()))
    assert pdp.seen[0].body == (
        b'{"subject": {"type": "user", "id": "alice"}, "action": {"name": "read"}, '
        b'"resource": {"type": "todo", "id": "1"}}'
    )


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"no test vectors at {SCHEMAS}")
def test_questions_and_answers_keep_to_the_schemas(pdp: Any, ask_here: Any, point: AuthZEN) -> None:
    """AZ-1, AZ-5. Those that the working group publishes."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((SCHEMAS / "evaluation-request.schema.json").read_bytes())
    pdp.answers = {
        EVALUATION: {"decision": True},
        EVALUATIONS: {"evaluations": [{"decision": True}] * 3},
    }
    ask_here(point.decide(REQUEST, pdp.soon()))
    ask_here(point.decide_many([REQUEST] * 3, pdp.soon()))
    one, many = (seen.json for seen in pdp.seen)
    assert many.keys() == {"evaluations"}
    for question in (one, *many["evaluations"]):
        jsonschema.validate(question, schema)
    answers = json.loads((SCHEMAS / "evaluation-response.schema.json").read_bytes())
    jsonschema.validate({"decision": True, "context": {}}, answers)


def test_the_shape_of_api_gateways(pdp: Any, ask_here: Any) -> None:
    """AZ-10. The type of subjects is a matter of configuration."""
    pdp.answers[EVALUATION] = {"decision": True}
    point = AuthZEN(pdp.url, timeout=30, discovery=False, subject_type="identity")
    route = Resource("route", "/todos/{todoId}")
    ask_here(point.decide(AccessRequest(ALICE, Action("PUT"), route), pdp.soon()))
    assert pdp.seen[0].json["subject"]["type"] == "identity"
    assert pdp.seen[0].json["resource"] == {"type": "route", "id": "/todos/{todoId}"}


def test_one_of_many_is_one_question(pdp: Any, ask: Any, point: AuthZEN) -> None:
    """AZ-5. Not a batch of one."""
    pdp.answers[EVALUATION] = {"decision": True}
    assert [d.permitted for d in ask(point.decide_many([REQUEST], pdp.soon()))] == [True]
    assert pdp.paths == [EVALUATION]


def test_many_go_in_bounded_batches(pdp: Any, ask: Any) -> None:
    """AZ-5. A filter over 100 is two exchanges, in order; a rest of one is a single question."""

    def even(seen: Any) -> Any:
        numbers = [int(item["resource"]["id"]) for item in seen.json["evaluations"]]
        return pdp.wire({"evaluations": [{"decision": number % 2 == 0} for number in numbers]})

    pdp.answers = {EVALUATION: {"decision": True}, EVALUATIONS: even}
    point = AuthZEN(pdp.url, timeout=30, discovery=False)
    requests = [
        AccessRequest(ALICE, Action("read"), Resource("doc", str(number))) for number in range(101)
    ]
    decisions = ask(point.decide_many(requests, pdp.soon()))
    assert [d.permitted for d in decisions] == [number % 2 == 0 for number in range(101)]
    assert pdp.paths == [EVALUATIONS, EVALUATIONS, EVALUATION]


def test_a_failed_batch_leaves_the_others(pdp: Any, ask_here: Any) -> None:
    """AZ-5. Each exchange stands for itself."""
    answers = iter([pdp.wire({"evaluations": [{"decision": True}] * 2}), pdp.wire(status=500)])
    pdp.answers[EVALUATIONS] = lambda seen: next(answers)
    point = AuthZEN(pdp.url, timeout=30, discovery=False, batch_size=2)
    decisions = ask_here(point.decide_many([REQUEST] * 4, pdp.soon()))
    assert [d.effect.value for d in decisions] == ["permit"] * 2 + ["indeterminate"] * 2


# -- the answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [[], "x", 1, True], ids=repr)
def test_an_odd_context_decides_nothing(decide: Any, context: Any) -> None:
    """AZ-1. A permit that says more than we can read is none."""
    assert decide({"decision": True, "context": context}).effect is Effect.INDETERMINATE


@pytest.mark.parametrize("decision", [True, False])
def test_a_context_of_null_is_none(decide: Any, decision: bool) -> None:
    """AZ-9. Members that are null should be left out; who writes them still says yes or no."""
    assert decide({"decision": decision, "context": None}, strict_context=True) == decide(
        {"decision": decision}
    )


def test_what_a_denial_tells(decide: Any) -> None:
    """AZ-2. Reasons are for the log, and only the one for users may be shown to them."""
    decision = decide(
        {
            "decision": False,
            "context": {
                "id": "0",
                "reason": "not_owner",
                "reason_admin": {"403": "Request failed policy C076E82F"},
                "reason_user": {"en-403": "Insufficient privileges", "es-403": "Privilegios"},
                "policy_version": 7,
            },
        }
    )
    assert decision.effect is Effect.DENY
    assert decision.reasons == ("not_owner", "Request failed policy C076E82F")
    assert decision.user_reason == "Insufficient privileges"
    assert decision.decision_id == "0"
    assert decision.policy_version == "7"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"en": "No.", "de": "Nein."}, "No."),
        ({"de": "Nein.", "EN-gb": "No."}, "No."),
        ({"403": "No."}, "No."),
        ({"de": "Nein."}, "Nein."),
        ("No.", "No."),
        ("No.\r\nSet-Cookie: x", "No.  Set-Cookie: x"),
        ("x" * 10_000, "x" * 512),
        ({"en": {"x": 1}}, None),
        ({}, None),
        (7, None),
        ("\n", None),
    ],
)
def test_what_users_may_be_told(decide: Any, told: Any, shown: str | None) -> None:
    """In English where there is English; cut, and without line breaks."""
    answer = {"decision": False, "context": {"reason_user": told}}
    assert decide(answer).user_reason == shown


def test_odd_reasons_are_left_out(decide: Any) -> None:
    """They are text of others in our log: short, few and on one line."""
    reasons = ["a", 1, True, None, {"x": 1}, "b\nc", "a", "d" * 1000, *map(str, range(100))]
    told = decide({"decision": False, "context": {"reason": reasons}}).reasons
    assert told[:4] == ("a", "1", "b c", "d" * 256)
    assert len(told) == 32


@pytest.mark.parametrize(
    ("context", "acr", "age"),
    [
        ({"acr_values": "loa3 loa4"}, ("loa3", "loa4"), None),
        ({"acr_values": ["loa3", "loa4", "loa3"]}, ("loa3", "loa4"), None),
        ({"max_age": 300}, (), 300),
        ({"max_age": "300", "acr_values": "loa3"}, ("loa3",), 300),
        ({"acr_values": ['x" evil="1', "a\r\nb", 7, ""]}, (), None),
        ({"acr_values": {"x": 1}, "max_age": -1}, (), None),
        ({"max_age": True}, (), None),
        ({"max_age": 3.5}, (), None),
        ({"max_age": 10**30}, (), None),
        (
            {
                "obligations": [
                    {
                        "id": "1",
                        "type": "step-up",
                        "properties": {"acr_value": "loa3", "acr_values": ["loa4"]},
                    }
                ]
            },
            ("loa3", "loa4"),
            None,
        ),
    ],
)
def test_hints_to_step_up(
    decide: Any, context: dict[str, Any], acr: tuple[str, ...], age: int | None
) -> None:
    """AZ-8. What a challenge cannot hold is left out."""
    decision = decide({"decision": False, "context": context})
    assert decision.effect is Effect.DENY
    assert (decision.acr_values, decision.max_age) == (acr, age)


def test_obligations(decide: Any) -> None:
    """AZ-3. None is lost: one that cannot be read is one that nobody can meet."""
    told = [
        {"id": "1", "type": "notification", "properties": {"to": "x"}},
        "mask",
        {"type": 7, "properties": 1},
        {"id": "3"},
        9,
    ]
    decision = decide({"decision": True, "context": {"obligations": told}})
    assert [o.type for o in decision.obligations] == [
        *("notification", "mask", "unreadable", "unreadable", "unreadable")
    ]
    assert decision.obligations[0].properties == {"to": "x"}
    step_up = {"type": "step-up", "properties": {"acr_value": "loa3", "acr_values": "loa4 loa3"}}
    decision = decide({"decision": True, "context": {"obligations": [step_up]}})
    assert decision.obligations[0].properties["acr_values"] == ["loa3", "loa4"]
    for odd in ({"type": "x"}, "x", 1, ["x"] * 33):
        answer = {"decision": True, "context": {"obligations": odd}}
        assert [o.type for o in decide(answer).obligations] == ["unreadable"]


@pytest.mark.parametrize("member", ["obligation", "advice", "debug", ""])
def test_a_strict_context(decide: Any, member: str) -> None:
    """AZ-3. Whoever says so refuses a permit that says what we do not understand."""
    answer = {"decision": True, "context": {member: {"x": 1}}}
    assert decide(answer).effect is Effect.PERMIT
    refused = decide(answer, strict_context=True)
    assert (refused.effect, refused.reasons) == (Effect.DENY, ("context_not_understood",))
    understood = {"decision": True, "context": {"reason": "owner", "id": "7"}}
    assert decide(understood, strict_context=True).effect is Effect.PERMIT


def test_an_evaluation_that_failed_is_a_denial(pdp: Any, ask_here: Any, point: AuthZEN) -> None:
    """AZ-2, AZ-5. ``false`` must not go forward, so no rule may let it pass either."""
    failed = {"decision": False, "context": {"error": {"status": 404, "message": "no doc"}}}
    pdp.answers[EVALUATIONS] = {"evaluations": [{"decision": True}, failed]}
    decisions = ask_here(point.decide_many([REQUEST, REQUEST], pdp.soon()))
    assert [d.effect for d in decisions] == [Effect.PERMIT, Effect.DENY]
    assert decisions[1].reasons == ("evaluation_failed", "404")


# -- where it is asked -----------------------------------------------------------------------


def test_where_metadata_may_be() -> None:
    """AZ-6. As the standard, Keycloak and OpenFGA have it; each address once."""
    host = "https://pdp.example"
    assert metadata_urls(host) == metadata_urls(f"{host}/") == (f"{host}{WELL_KNOWN}",)
    assert metadata_urls(f"{host}/stores/s1") == (
        f"{host}{WELL_KNOWN}/stores/s1",
        f"{host}/stores/s1{WELL_KNOWN}",
        f"{host}{WELL_KNOWN}/s1",
    )


def metadata(pdp: Any, identifier: str, **more: Any) -> dict[str, Any]:
    """A document that names other places than the standard's."""
    return {
        "policy_decision_point": identifier,
        "access_evaluation_endpoint": f"{pdp.url}/one",
        "access_evaluations_endpoint": f"{pdp.url}/many",
        **more,
    }


@pytest.mark.parametrize(
    "place", [f"{WELL_KNOWN}/stores/s1", f"/stores/s1{WELL_KNOWN}", f"{WELL_KNOWN}/s1"]
)
def test_each_layout_is_found(pdp: Any, ask: Any, place: str) -> None:
    """AZ-6."""
    identifier = f"{pdp.url}/stores/s1"
    pdp.answers = {
        place: metadata(pdp, identifier),
        "/one": {"decision": True},
        "/many": {"evaluations": [{"decision": True}, {"decision": False}]},
    }
    point = AuthZEN(identifier, timeout=30)
    assert ask(point.decide(REQUEST, pdp.soon())).permitted
    decisions = ask(point.decide_many([REQUEST, REQUEST], pdp.soon()))
    assert [decision.permitted for decision in decisions] == [True, False]
    assert [path for path in pdp.paths if "well-known" not in path] == ["/one", "/many"]
    assert pdp.paths.count(place) == 1


@pytest.mark.parametrize("there", [True, False])
def test_layouts_of_a_slow_decision_point(pdp: Any, ask_here: Any, clock: Any, there: bool) -> None:
    """AZ-6. Time runs out before all places were looked at: the next time goes on from there."""
    url = f"{pdp.url}/stores/a"
    here = pdp.wire(metadata(pdp, url)) if there else pdp.wire(status=404)

    def slow(seen: Any) -> Any:
        clock.advance(0.2)
        return here if seen.path == f"{WELL_KNOWN}/a" else pdp.wire(status=404)

    pdp.otherwise = slow
    pdp.answers = {"/one": {"decision": True}, f"/stores/a{EVALUATION}": {"decision": True}}
    around = Surroundings(clock=Clock(clock, clock))
    point = AuthZEN(url, surroundings=around)
    assert ask_here(point.decide(REQUEST, clock() + 0.35)).effect is Effect.INDETERMINATE
    clock.advance(30.0)
    assert ask_here(point.decide(REQUEST, clock() + 30)).permitted


def test_the_metadata_of_another_is_not_used(pdp: Any, ask: Any) -> None:
    """AZ-6. Compared exactly: a slash more is another one; unless whoever knows says otherwise."""
    pdp.answers = {WELL_KNOWN: metadata(pdp, f"{pdp.url}/"), "/one": {"decision": True}}
    decision = ask(AuthZEN(pdp.url, timeout=30).decide(REQUEST, pdp.soon()))
    assert decision.effect is Effect.INDETERMINATE
    assert decision.error == "metadata_of_another_decision_point"
    assert pdp.paths == [WELL_KNOWN]
    point = AuthZEN(pdp.url, timeout=30, validate_pdp_id=False)
    assert ask(point.decide(REQUEST, pdp.soon())).permitted


def test_without_metadata_the_standard_says_where(pdp: Any, ask: Any) -> None:
    """AZ-6. Below the path of the decision point."""
    pdp.answers[f"/tenant{EVALUATION}"] = {"decision": True}
    assert ask(AuthZEN(f"{pdp.url}/tenant", timeout=30).decide(REQUEST, pdp.soon())).permitted


@pytest.mark.parametrize("status", [400, 401, 403, 500, 503])
def test_metadata_that_fails_decides_nothing(pdp: Any, ask: Any, status: int) -> None:
    """AZ-4, AZ-6. It is there, so the standard's places are no guess to be made."""
    pdp.answers = {WELL_KNOWN: pdp.wire(status=status), EVALUATION: {"decision": True}}
    point = AuthZEN(pdp.url, timeout=30)
    decision = ask(point.decide(REQUEST, pdp.soon()))
    assert decision.error == f"metadata_status_{status}"
    assert decision.retry_after >= 1
    again = ask(point.decide_many([REQUEST, REQUEST], pdp.soon()))
    assert {each.error for each in again} == {"metadata_cooling_down"}
    assert pdp.paths == [WELL_KNOWN]


@pytest.mark.parametrize(
    "endpoint", [None, 7, "", "/access", "ftp://pdp/x", "http:///x", "http://[x", "https://"]
)
def test_metadata_without_a_usable_endpoint(pdp: Any, ask_here: Any, endpoint: Any) -> None:
    """AZ-6."""
    pdp.answers[WELL_KNOWN] = metadata(pdp, pdp.url, access_evaluation_endpoint=endpoint)
    decision = ask_here(AuthZEN(pdp.url, timeout=30).decide(REQUEST, pdp.soon()))
    assert decision.error == "metadata_without_endpoint"


def test_metadata_leads_nowhere_over_plain_http(pdp: Any, ask_here: Any) -> None:
    """AZ-6. To another machine only where that was allowed; our credentials would go along."""
    away = "http://pdp.invalid/one"
    pdp.answers[WELL_KNOWN] = metadata(pdp, pdp.url, access_evaluation_endpoint=away)
    for allowed, error in ((False, "metadata_without_endpoint"), (True, "connect")):
        point = AuthZEN(pdp.url, timeout=30, token="s3cret", allow_insecure_http=allowed)
        assert ask_here(point.decide(REQUEST, pdp.soon())).error == error


def test_a_decision_point_without_batches(pdp: Any, ask: Any) -> None:
    """AZ-5, AZ-6. What its metadata does not name it does not have: one by one."""
    document = metadata(pdp, pdp.url)
    del document["access_evaluations_endpoint"]
    answers = iter([{"decision": True}, {"decision": "true"}, {"decision": True}])
    pdp.answers = {WELL_KNOWN: document, "/one": lambda seen: pdp.wire(next(answers))}
    decisions = ask(AuthZEN(pdp.url, timeout=30).decide_many([REQUEST] * 3, pdp.soon()))
    assert [decision.permitted for decision in decisions] == [True, False, True]
    assert decisions[1].error == "not_a_decision"
    assert pdp.paths == [WELL_KNOWN, "/one", "/one", "/one"]


def test_metadata_is_renewed_while_it_serves(pdp: Any, apart: Any, clock: Any) -> None:
    """AZ-6. After an hour, by one caller, and nobody waits; what fails then changes nothing."""
    around = Surroundings(clock=Clock(clock, clock))
    point = AuthZEN(pdp.url, timeout=30, surroundings=around)
    pdp.answers = {WELL_KNOWN: metadata(pdp, pdp.url), "/one": {"decision": True}}
    ask = lambda: apart(point.decide(REQUEST, clock() + 30))  # noqa: E731 - said often
    assert ask().permitted
    clock.advance(3599)
    assert ask().permitted
    assert apart.background() == 0
    clock.advance(2)
    pdp.answers[WELL_KNOWN] = pdp.wire(status=500)
    assert ask().permitted
    assert ask().permitted
    assert apart.background() == 1
    assert ask().permitted
    clock.advance(60)
    pdp.answers[WELL_KNOWN] = metadata(pdp, pdp.url, access_evaluation_endpoint=f"{pdp.url}/moved")
    pdp.answers["/moved"] = {"decision": False}
    assert ask().permitted
    assert apart.background() == 1
    assert ask().effect is Effect.DENY


def test_an_endpoint_that_is_gone_is_looked_for(pdp: Any, apart: Any, clock: Any) -> None:
    """AZ-6. A 404 makes the next caller have the metadata renewed."""
    point = AuthZEN(pdp.url, timeout=30, surroundings=Surroundings(clock=Clock(clock, clock)))
    pdp.answers[WELL_KNOWN] = metadata(pdp, pdp.url)
    for seconds in (0, 4, 2, 0):  # only then may it be looked for, and once
        clock.advance(seconds)
        assert apart(point.decide(REQUEST, clock() + 30)).error == "status_404"
    assert len(apart.later) == 1
    pdp.answers["/one"] = {"decision": True}
    assert apart(point.decide(REQUEST, clock() + 30)).permitted
    assert apart.background() == 1
    assert pdp.paths.count(WELL_KNOWN) == 2


def test_endpoints_that_are_given(pdp: Any, ask: Any) -> None:
    """AZ-6. They win over the metadata's and the standard's; without discovery nothing is got."""
    pdp.answers = {"/mine": {"decision": True}, WELL_KNOWN: metadata(pdp, pdp.url)}
    mine = f"{pdp.url}/mine"
    for discovery in (True, False):
        point = AuthZEN(pdp.url, timeout=30, discovery=discovery, evaluation_url=mine)
        assert ask(point.decide(REQUEST, pdp.soon())).permitted
    assert pdp.paths == [WELL_KNOWN, "/mine", "/mine"]


KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def signed_point(pdp: Any, tmp_path: Path, clock: Any) -> AuthZEN:
    """Believes only what ``KEY`` signed; the endpoint beside it is an attacker's."""
    jwk = ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True) | {"kid": "k1", "alg": "ES256"}
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [jwk]}))
    pdp.answers = {"/one": {"decision": True}, "/evil": {"decision": True}}
    around = Surroundings(clock=Clock(clock, clock))
    return AuthZEN(pdp.url, timeout=30, signed_metadata=str(file), surroundings=around)


def signature(claims: dict[str, Any], key: Any = KEY, **more: Any) -> str:
    """A document as a JWT."""
    told = {**claims, **more}
    return jwt.encode(told, key, "ES256", headers={"kid": "k1"})


def test_signed_metadata_wins(pdp: Any, ask_here: Any, clock: Any, signed_point: AuthZEN) -> None:
    """AZ-6. What stands beside it was not signed, so it is not looked at."""
    told = metadata(pdp, pdp.url)
    signed = signature(told, iss="https://operator.example", exp=int(clock()) + 60)
    evil = f"{pdp.url}/evil"
    pdp.answers[WELL_KNOWN] = told | {
        "access_evaluation_endpoint": evil,
        "search_action_endpoint": evil,
        "signed_metadata": signed,
    }
    assert ask_here(signed_point.decide(REQUEST, clock() + 30)).permitted
    assert pdp.paths == [WELL_KNOWN, "/one"]
    found = ask_here(signed_point.search_actions(ALICE, Resource("doc", "1"), clock() + 30))
    assert found.error == "no_such_endpoint"


@pytest.mark.parametrize(
    "case",
    [
        (lambda told: None, "metadata_unverified"),
        (lambda told: 7, "metadata_unverified"),
        (lambda told: "e30.e30.x", "metadata_unverified"),
        (lambda told: "ä.b.c", "metadata_unverified"),
        (lambda told: signature(told, OTHER_KEY, iss="x"), "metadata_unverified"),
        (signature, "metadata_unverified"),
        (lambda told: signature(told, iss="x", exp=1), "metadata_expired"),
        (lambda told: signature(told, iss="x", exp="never"), "metadata_expired"),
        (lambda told: signature(told, iss="x", nbf=2**40), "metadata_expired"),
        (
            lambda told: signature(told, iss="x", policy_decision_point="https://other.example"),
            "metadata_of_another_decision_point",
        ),
    ],
)
def test_what_is_not_rightly_signed_is_not_used(
    pdp: Any, ask_here: Any, clock: Any, signed_point: AuthZEN, case: Any
) -> None:
    """AZ-6. Metadata whose signature is required is never passed over."""
    signed, error = case
    told = metadata(pdp, pdp.url)
    pdp.answers[WELL_KNOWN] = told | {"signed_metadata": signed(told)}
    assert ask_here(signed_point.decide(REQUEST, clock() + 30)).error == error
    assert pdp.paths == [WELL_KNOWN]


def test_signed_metadata_that_is_not_there(
    pdp: Any, ask_here: Any, clock: Any, signed_point: AuthZEN
) -> None:
    """AZ-6. Whoever takes it away must not get us to guess."""
    pdp.answers[EVALUATION] = {"decision": True}
    assert ask_here(signed_point.decide(REQUEST, clock() + 30)).error == "metadata_missing"
    assert pdp.paths == [WELL_KNOWN]


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    """Known when it is built."""
    file = tmp_path / "keys.json"
    for text in ("", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA"}]}'):
        file.write_text(text)
        with pytest.raises(ConfigError, match="signed_metadata"):
            AuthZEN("https://pdp.example", signed_metadata=str(file))


# -- searches --------------------------------------------------------------------------------


def test_a_search_goes_through_all_pages(pdp: Any, ask: Any, point: AuthZEN) -> None:
    """AuthZEN section 8.2. The token goes back as it came."""

    def page(seen: Any) -> bytes:
        token = seen.json.get("page", {}).get("token")
        name, after = {None: ("alice", "p2"), "p2": ("bob", "p3"), "p3": ("carol", "")}[token]
        results = [{"type": "user", "id": name, "properties": {"x": 1}}]
        return bytes(pdp.wire({"results": results, "page": {"next_token": after, "count": 1}}))

    pdp.answers["/access/v1/search/subject"] = page
    flow = point.search_subjects("user", Action("read"), Resource("doc", "1"), pdp.soon())
    found = ask(flow)
    assert [subject.id for subject in found.results] == ["alice", "bob", "carol"]
    assert (found.complete, found.error) == (True, None)
    assert pdp.seen[0].json == {
        "subject": {"type": "user"},
        "action": {"name": "read"},
        "resource": {"type": "doc", "id": "1"},
    }


def test_the_other_searches(pdp: Any, ask: Any, point: AuthZEN) -> None:
    """AuthZEN sections 8.5 and 8.6."""
    pdp.answers = {
        "/access/v1/search/resource": {
            "results": [{"type": "doc", "id": "a:b", "properties": None}],
            "page": None,
        },
        "/access/v1/search/action": {"results": [{"name": "read"}, {"name": "write"}]},
    }
    found = ask(point.search_resources(ALICE, Action("read"), "doc", pdp.soon()))
    assert found.results == (Resource("doc", "a:b"),)
    found = ask(point.search_actions(ALICE, Resource("doc", "1"), pdp.soon()))
    assert [action.name for action in found.results] == ["read", "write"]
    resource, action = (seen.json for seen in pdp.seen)
    assert resource["resource"] == {"type": "doc"}
    assert "action" not in action


def test_a_search_has_an_end(pdp: Any, ask_here: Any, point: AuthZEN) -> None:
    """Neither pages in a circle nor more results than asked for."""
    endless = {"results": [{"name": "read"}], "page": {"next_token": "again"}}
    pdp.answers["/access/v1/search/action"] = endless
    search = lambda **more: ask_here(  # noqa: E731 - said twice
        point.search_actions(ALICE, Resource("doc", "1"), pdp.soon(), **more)
    )
    found = search()
    assert (len(found.results), found.complete, found.error) == (2, False, "pages_without_end")
    found = search(limit=1)
    assert (len(found.results), found.complete, found.error) == (1, False, None)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"results": None},
        {"results": {}},
        {"results": ["read"]},
        {"results": [{"name": 1}]},
        {"results": [{"name": "x", "properties": []}]},
        {"results": [], "page": []},
        {"results": [], "page": {"next_token": 7}},
        {"results": [], "page": {"next_token": "x" * 10_000}},
    ],
)
def test_odd_results_are_none(pdp: Any, ask_here: Any, point: AuthZEN, answer: Any) -> None:
    """A search that cannot be read found nothing, and says so."""
    pdp.answers["/access/v1/search/action"] = answer
    found = ask_here(point.search_actions(ALICE, Resource("doc", "1"), pdp.soon()))
    assert (found.results, found.complete, found.error) == ((), False, "not_results")


def test_a_search_that_cannot_be_sent(pdp: Any, ask_here: Any, point: AuthZEN) -> None:
    """AZ-9."""
    found = ask_here(point.search_actions(ALICE, Resource("doc", "\ud800"), pdp.soon()))
    assert (found.complete, found.error) == (False, "unsendable")


# -- settings --------------------------------------------------------------------------------


def settings(**more: Any) -> Settings:
    """An API whose decisions are made elsewhere."""
    return Settings(issuer="https://as.example", audience="api", policy="authzen", **more)


def test_it_is_opened_from_the_settings(pdp: Any, ask: Any) -> None:
    """``BEARER_POLICY_URL`` is the identifier, the options are the keywords."""
    pdp.answers["/mine"] = {"decision": True}
    options = {"discovery": "false", "evaluation_url": f"{pdp.url}/mine", "subject_type": "who"}
    options["claims"] = "department"  # is for whoever puts the questions
    said = settings(
        policy_url=pdp.url, policy_token="s3cret", policy_timeout=30, policy_options=options
    )
    point = open_point(said, Surroundings(tls=Tls()))
    assert isinstance(point, AuthZEN)
    assert point.name == "authzen"
    assert {upstream.target for upstream in point.upstreams} == {"policy", "discovery"}
    assert ask(point.decide(REQUEST, pdp.soon())).permitted
    assert pdp.seen[0].json["subject"]["type"] == "who"
    assert pdp.seen[0].headers["authorization"] == "Bearer s3cret"


def test_wrong_options_are_all_told() -> None:
    """Each member that is wrong is named, what was written is not."""
    options = {"batch_size": 0, "discovery": "perhaps", "evaluation_url": "x", "s3cret": 1}
    said = settings(policy_url="https://pdp.example", policy_options=options)
    with pytest.raises(ConfigError) as raised:
        open_point(said, Surroundings())
    mistakes = raised.value.mistakes
    assert len(mistakes) == 4
    assert all(mistake.startswith("BEARER_POLICY_OPTIONS: ") for mistake in mistakes)
    text = str(raised.value)
    assert all(word in text for word in ("batch_size", "discovery", "evaluation_url"))
    assert "s3cret" not in text
    assert "perhaps" not in text


def test_wrong_keywords() -> None:
    """What is wrong is known when it is built, and no secret is shown."""
    for url in ("pdp", "https://pdp.example/?x=1", "https://u:p@pdp.example"):
        with pytest.raises(ConfigError):
            AuthZEN(url)
    with pytest.raises(ConfigError, match="BEARER_POLICY_TOKEN") as raised:
        AuthZEN("https://pdp.example", token="s3cret\r\nx")
    assert "s3cret" not in str(raised.value)
    with pytest.raises(TypeError, match="evaluation_uri"):
        AuthZEN("https://pdp.example", evaluation_uri="https://x.example")
    said = settings(policy_url="https://pdp.example/?x=1")
    with pytest.raises(ConfigError, match="BEARER_POLICY_URL"):
        open_point(said, Surroundings())


@pytest.mark.parametrize("keyword", ["url", "evaluation_url", "metadata_url"])
def test_plain_http_stays_on_this_machine(keyword: str) -> None:
    """Anybody on the way could say yes, and see our credentials; also where options say it."""
    plain = {"url": "https://pdp.example", keyword: "http://pdp.example"}
    with pytest.raises(ConfigError, match=f"{keyword}: goes over http to another machine"):
        AuthZEN(**plain)
    assert AuthZEN(**plain, allow_insecure_http=True).name == "authzen"
    assert AuthZEN(**plain | {keyword: "http://localhost:3592"}).name == "authzen"
    for build in (Permit, lambda url: Opa(url, decision_path="a")):
        with pytest.raises(ConfigError, match="goes over http"):
            build("http://pdp.example")
    if keyword != "url":
        said = settings(policy_url=plain.pop("url"), policy_options=plain)
        with pytest.raises(ConfigError, match=keyword):
            open_point(said, Surroundings())
