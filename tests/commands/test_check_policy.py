"""``check`` asks the decision point a harmless question, and looks at routes, cache and audit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.commands.check import check
from bearer_middleware.commands.policy_findings import QUESTION
from bearer_middleware.policy.model import information
from bearer_middleware.testing import Issuer
from tests.commands.test_check_resource import serving

Tell = Callable[..., Any]
METADATA = "/.well-known/authzen-configuration"


@contextmanager
def point(
    answers: dict[str, tuple[int, object]], asked: list[object] | None = None
) -> Iterator[str]:
    """The address of a decision point with these answers by path; ``None`` is its own address."""

    def app(url: str) -> Any:
        def answer(environ: Any, start_response: Any) -> list[bytes]:
            path = environ["PATH_INFO"].removeprefix("/api")
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if asked is not None and body:
                asked.append(json.loads(body))
            status, said = answers.get(path, (404, "nothing"))
            if callable(said):
                said = said(url.removesuffix("/api"))
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
            start_response(f"{status} x", [*headers, ("Location", "https://elsewhere.example")])
            return [data]

        return answer

    with serving(app) as url:
        yield url.removesuffix("/api")


def authzen(decision: object, **context: object) -> dict[str, tuple[int, object]]:
    """A decision point without metadata."""
    return {"/access/v1/evaluation": (200, {"decision": decision, **context})}


def test_it_answers(checked: Tell, canary: str) -> None:
    """The question names nobody and nothing, and is told; nothing of the answer is."""
    asked: list[object] = []
    with point(authzen(False, context={"debug": canary}), asked) as url:
        told = checked(policy="authzen", policy_url=url, policy_token=f"{canary}-{'t' * 40}")
    assert told.status == 0, told.text
    assert asked == [information(QUESTION)]
    assert "denies what it should" in told.of("ok")["BEARER_POLICY_URL"]
    assert "user:bearer-middleware-check" in told.of("ok")["BEARER_POLICY_URL"]
    assert "there is none" in told.of("skip")["metadata"]


def test_it_permits_everything(checked: Tell) -> None:
    """A question that no policy can have a rule for."""
    with point(authzen(True)) as url:
        told = checked(policy="authzen", policy_url=url)
    assert told.status == 0
    assert "let in everybody" in told.of("warn")["BEARER_POLICY_URL"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "c4n4ry"), "is BEARER_POLICY_TOKEN right"),
        ((403, "c4n4ry"), "may BEARER_POLICY_TOKEN"),
        ((404, "c4n4ry"), "has nothing there"),
        ((302, "c4n4ry"), "redirects"),
        ((500, "c4n4ry"), "is in trouble (status 500)"),
        ((200, b"c4n4ry"), "does not answer with a JSON object"),
        ((200, {"decision": "true"}), "something else than a decision"),
        ((200, {"result": True}), "something else than a decision"),
        ((200, b'{"decision":false,"c4n4ry":"%s"}' % (b"x" * 70_000)), "sends more than"),
    ],
)
def test_it_answers_with_something_else(
    checked: Tell, answer: tuple[int, object], said: str
) -> None:
    """AZ-4: that is no decision, and requests would be answered with 503."""
    with point({"/access/v1/evaluation": answer}) as url:
        told = checked(policy="authzen", policy_url=url, policy_token="t" * 40)
    assert told.status == 1
    assert said in told.of("fail")["BEARER_POLICY_URL"]


def test_it_does_not_know_such_types(checked: Tell) -> None:
    """OpenFGA, say, refuses what its model does not name: that is said, and no failure."""
    with point({"/access/v1/evaluation": (400, {})}) as url:
        told = checked(policy="authzen", policy_url=url)
    assert told.status == 0
    assert "status_400" in told.of("warn")["BEARER_POLICY_URL"]


def test_metadata(checked: Tell) -> None:
    """AZ-6: the metadata has to be that of the decision point, and leads to its endpoint."""

    def own(url: str) -> dict[str, str]:
        return {"policy_decision_point": url, "access_evaluation_endpoint": f"{url}/ask"}

    with point({METADATA: (200, own), "/ask": (200, {"decision": False})}) as url:
        told = checked(policy="authzen", policy_url=url)
        assert told.status == 0, told.text
        assert f"{url}/ask answers" in told.of("ok")["BEARER_POLICY_URL"]
    other = {"policy_decision_point": "https://c4n4ry.example"}
    with point({METADATA: (200, other)}) as url:
        told = checked(policy="authzen", policy_url=url)
    assert told.status == 1
    assert "of another decision point" in told.of("fail")["BEARER_POLICY_URL"]


def test_nobody_is_there(checked: Tell) -> None:
    """Neither at once nor over http to another machine."""
    with point({}) as url:
        pass
    for policy, more in (("authzen", ""), ("permit", ""), ("opa", "/v1/data/app/allow")):
        told = checked(policy=policy, policy_url=url + more)
        assert told.status == 1
        assert "cannot be reached" in told.of("fail")["BEARER_POLICY_URL"]


def test_http_to_another_machine(issuer: Issuer, variables: Callable[..., dict[str, str]]) -> None:
    """It is a mistake of the settings already; where it is allowed, it is said."""
    del issuer
    import io

    out = io.StringIO()
    said = variables(policy="authzen", policy_url="http://pdp.example", allow_insecure_http=None)
    assert check(said, out) == 1
    assert "goes over http to another machine" in out.getvalue()


def test_rule_that_is_not_there(checked: Tell) -> None:
    """OPA answers for any path, with nothing."""
    with point({"/v1/data/app/allow": (200, {})}) as url:
        told = checked(policy="opa", policy_url=f"{url}/v1/data/app/allow")
    assert told.status == 0
    assert "is decision_path right" in told.of("warn")["BEARER_POLICY_URL"]


# -- engines in this process -----------------------------------------------------------------

RULE = """
[[rules]]
name = "editors"
effect = "permit"
roles = ["editor"]
actions = ["*"]
resources = ["*"]
"""


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("local", RULE),
        ("cedar", 'permit(principal == user::"alice", action, resource);'),
        ("rego", "package authz\n\ndefault allow := false\n"),
    ],
)
def test_engine(checked: Tell, tmp_path: Path, policy: str, text: str) -> None:
    """It decides about the same question."""
    file = tmp_path / "policy"
    file.write_text(text)
    told = checked(policy=policy, policy_file=file)
    assert told.status == 0, told.text
    assert "decides in this process, version" in told.of("ok")[f"BEARER_POLICY={policy}"]
    assert "BEARER_POLICY_FILE" not in told.of("warn")


@pytest.mark.parametrize("policy", ["local", "cedar"])
def test_empty_policy(checked: Tell, tmp_path: Path, policy: str) -> None:
    """Nobody would get in."""
    file = tmp_path / "policy"
    file.write_text("\n")
    told = checked(policy=policy, policy_file=file)
    assert "nobody is permitted" in told.of("warn")["BEARER_POLICY_FILE"]


def test_engine_that_does_not_decide(checked: Tell, tmp_path: Path) -> None:
    """A rule that says something else than yes or no."""
    file = tmp_path / "policy.rego"
    file.write_text('package authz\n\nallow := "c4n4ry"\n')
    told = checked(policy="rego", policy_file=file)
    assert told.status == 1
    assert "could not decide" in told.of("fail")["BEARER_POLICY=rego"]


def test_broken_policy(checked: Tell, tmp_path: Path) -> None:
    """The line is named, and nothing of it."""
    file = tmp_path / "policy.toml"
    file.write_text(RULE + "c4n4ry = [\n")
    told = checked(policy="local", policy_file=file)
    assert told.status == 1
    assert "line" in told.of("fail")["BEARER_POLICY_FILE"]


def test_engine_that_is_not_installed(
    checked: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "cedarpy", None)
    file = tmp_path / "policy.cedar"
    file.write_text("permit(principal, action, resource);")
    told = checked(policy="cedar", policy_file=file)
    assert told.status == 1
    assert "bearer-middleware[cedar]" in told.of("fail")["BEARER_POLICY=cedar"]


# -- routes, cache, changes and audit ----------------------------------------------------------


def table(*rows: dict[str, object]) -> str:
    """The rows as a variable has them."""
    return json.dumps(rows)


def test_routes_without_policy(checked: Tell) -> None:
    """Their actions mean nothing."""
    row = {"method": "GET", "path": "/a/{id}", "action": "read", "resource": "a:{id}"}
    told = checked(routes=table(row))
    assert told.status == 0
    assert "scopes alone decide" in told.of("warn")["BEARER_POLICY"]
    assert "every request is denied" in checked(routes=table()).of("warn")["BEARER_ROUTES"]


def test_policy_without_routes(checked: Tell, tmp_path: Path) -> None:
    """AZ-10: it is said what is asked then."""
    file = tmp_path / "policy.toml"
    file.write_text(RULE)
    told = checked(policy="local", policy_file=file)
    assert "route:PATH" in told.of("ok")["BEARER_POLICY"]


def test_rows_that_never_count(checked: Tell) -> None:
    """Both rows are named."""
    told = checked(
        routes=table({"method": "*", "path": "/a/*"}, {"method": "GET", "path": "/a/{id}"})
    )
    assert told.status == 0
    assert "row 2, GET /a/{id}, never counts: row 1, * /a/*," in told.of("warn")["BEARER_ROUTES"]


def test_rows_that_fail_open(checked: Tell) -> None:
    """Each is named, up to a point."""
    rows = [{"method": "GET", "path": f"/{n}", "on_error": "allow"} for n in range(30)]
    told = checked(routes=table(*rows))
    assert told.status == 0
    assert sum('on_error = "allow"' in line for line in told.lines) == 20
    assert "10 more rows" in told.text


@pytest.mark.parametrize(("ttl", "level"), [("60", "ok"), ("61", "warn")])
def test_decisions_kept(checked: Tell, tmp_path: Path, ttl: str, level: str) -> None:
    """Whoever loses a right keeps it for that long."""
    file = tmp_path / "policy.toml"
    file.write_text(RULE)
    more = {"policy_changed_path": "/changed", "policy_changed_token": "c4n4ry" + "t" * 40}
    told = checked(policy="local", policy_file=file, policy_cache_ttl=ttl, **more)
    assert told.status == 0
    assert f"by {ttl} s" in told.of(level)["BEARER_POLICY_CACHE_TTL"]
    assert "POST /changed" in told.of("ok")["BEARER_POLICY_CHANGED_PATH"]
    assert "BEARER_POLICY_CHANGED_TOKEN" not in told.of("warn")


def test_changes_that_nobody_needs(checked: Tell, tmp_path: Path) -> None:
    """No cache, and no policy at all; a secret that could be guessed."""
    more = {"policy_changed_path": "/changed", "policy_changed_token": "c4n4ry"}
    told = checked(**more)
    assert told.status == 1
    assert "no policy" in told.of("fail")["BEARER_POLICY_CHANGED_PATH"]
    file = tmp_path / "policy.toml"
    file.write_text(RULE)
    told = checked(policy="local", policy_file=file, **more)
    assert told.status == 0
    assert "little use" in told.of("warn")["BEARER_POLICY_CHANGED_PATH"]
    assert "guessed" in told.of("warn")["BEARER_POLICY_CHANGED_TOKEN"]


def test_audit(checked: Tell, tmp_path: Path) -> None:
    """A file that can be written, and one that cannot; it is not made here."""
    file = tmp_path / "audit.jsonl"
    told = checked(audit=file)
    assert told.status == 0
    assert "can be written" in told.of("ok")["BEARER_AUDIT"]
    assert not file.exists()
    assert "logger" in checked(audit="log").of("ok")["BEARER_AUDIT"]
    told = checked(audit=tmp_path / "nowhere" / "audit.jsonl")
    assert told.status == 1
    assert "can be written" in told.of("fail")["BEARER_AUDIT"]


def test_without_any_of_it(checked: Tell, issuer: Issuer) -> None:
    """Nothing is said."""
    text = checked().text
    assert not any(word in text for word in ("POLICY", "ROUTES", "AUDIT"))
    assert ResourceServer(Settings(**issuer.settings())).authorizer is None
