"""The file of an engine: read when the server is built, renewed where it changes, for all alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.policy.model import Effect
from bearer_middleware.policy.opening import open_point
from bearer_middleware.policy.point import AtOnce, Surroundings
from bearer_middleware.settings import Settings
from tests.policy.asking import ask

MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act
"""
#: By engine: a policy that lets alice update todos, one that lets bob, and one that is broken.
POLICIES = {
    "local": (
        '[[rules]]\nname = "r"\nwhen = "subject.id == \'alice\'"\n',
        '[[rules]]\nname = "r"\nwhen = "subject.id == \'bob\'"\n',
        '\n[[rules]]\nname = "SECRET x"\n',
    ),
    "cedar": (
        'permit(principal == user::"alice", action, resource);',
        '// another\npermit(principal == user::"bob", action, resource);',
        "\npermit(principal, action, SECRET);",
    ),
    "casbin": (
        "p, writer, todo, update\ng, alice, writer",
        "p, writer, todo, update\ng, bob, writer",
        "p, writer, todo, update\np, SECRET",
    ),
    "rego": (
        'package authz\nimport rego.v1\nallow if input.subject.id == "alice"',
        'package authz\nimport rego.v1\nallow if input.subject.id == "bob"',
        "package authz\nallow = SECRET ====",
    ),
}
ENTITY = '[{"uid": {"type": "user", "id": "alice"}, "attrs": {"may": %s}, "parents": []}]'
#: By engine: the option, a policy, and a content that permits and one that does not.
OTHER_FILES = {
    "casbin": ("model", POLICIES["casbin"][0], MODEL, MODEL.replace("r.act ==", "'no' ==")),
    "cedar": (
        "entities",
        "permit(principal, action, resource) when { principal.may };",
        ENTITY % "true",
        ENTITY % "false",
    ),
    "rego": (
        "data",
        "package authz\nimport rego.v1\nallow if input.subject.id in data.people",
        '{"people": ["alice"]}',
        '{"people": []}',
    ),
}
EACH = pytest.mark.parametrize("engine", POLICIES)


class Place:
    """A file with the policy of an engine, and a clock."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.path, self.engine, self.now = folder / "policy", engine, 100.0
        self.model = folder / "model"
        self.model.write_text(MODEL)
        self.times = 0

    def write(self, text: str) -> None:
        """As an editor would, a while ago."""
        self.path.write_text(text)
        self.times += 1
        os.utime(self.path, (1_700_000_000 + self.times,) * 2)

    def open(self, **options: Any) -> AtOnce:
        """The decision point of settings that name the file."""
        if self.engine == "casbin":
            options = {"model": str(self.model)} | options
        settings = Settings(
            issuer="https://as.example",
            audience="orders",
            policy=self.engine,
            policy_file=self.path,
            **({"policy_options": options} if options else {}),
        )
        clock = Clock(lambda: self.now, lambda: self.now)
        point = open_point(settings, Surroundings(clock=clock))
        assert isinstance(point, AtOnce)
        return point


@pytest.fixture
def place(tmp_path: Path, engine: str) -> Place:
    """With the first of the policies."""
    made = Place(tmp_path, engine)
    made.write(POLICIES[engine][0])
    return made


@EACH
def test_renewed_where_it_changes(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Roles are taken away while tokens live on: the next look decides anew."""
    point = place.open()
    first = point.judge(ask("alice"))
    assert first.permitted
    place.write(POLICIES[place.engine][1])
    place.now += 2
    assert not point.judge(ask("alice")).permitted
    assert point.judge(ask("bob")).permitted
    assert point.judge(ask("bob")).policy_version != first.policy_version
    assert "SECRET" not in caplog.text


@EACH
def test_a_broken_one_leaves_the_old_one_serving(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """That is told once, and nothing of what is in it."""
    point = place.open()
    point.judge(ask("alice"))
    place.write(POLICIES[place.engine][2])
    for _ in range(3):
        place.now += 2
        assert point.judge(ask("alice")).permitted
    assert caplog.text.count("file_unusable: BEARER_POLICY_FILE") == 1
    place.path.unlink()
    place.now += 2
    assert point.judge(ask("alice")).permitted
    assert "SECRET" not in caplog.text
    place.write(POLICIES[place.engine][1])
    place.now += 2
    assert point.judge(ask("bob")).permitted


@EACH
def test_a_broken_one_is_a_mistake_at_start(place: Place) -> None:
    """It names the setting and the line, and never the content."""
    place.write(POLICIES[place.engine][2])
    with pytest.raises(ConfigError) as failure:
        place.open()
    assert f"BEARER_POLICY_FILE: {place.path}: line 2" in str(failure.value)
    assert "SECRET" not in str(failure.value)


@EACH
@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * (4 * 1024 * 1024 + 1)])
def test_no_file_of_text_is_a_mistake(place: Place, content: bytes | None) -> None:
    """One that is missing, is no text, or is too large."""
    if content is None:
        place.path.unlink()
    else:
        place.path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"BEARER_POLICY_FILE.*names a file"):
        place.open()


@pytest.mark.parametrize("engine", ["local"])
@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5_000, "[roles.a]\npermits = " + "[" * 900 + "]" * 900]
)
def test_depth_is_a_mistake_like_any_other(place: Place, text: str) -> None:
    """No policy crashes the server, at start or later."""
    point = place.open()
    place.write(text)
    place.now += 2
    assert point.judge(ask("alice")).permitted
    with pytest.raises(ConfigError, match="BEARER_POLICY_FILE"):
        place.open()


@pytest.mark.parametrize("engine", ["cedar", "casbin", "rego"])
@pytest.mark.parametrize("options", [{"SECRET": 1}, {"engine": 3, "model": 3, "roles": 3}])
def test_options_are_validated(place: Place, options: dict[str, Any]) -> None:
    """An unknown one, or one of the wrong kind."""
    with pytest.raises(ConfigError, match="BEARER_POLICY_OPTIONS") as failure:
        place.open(**options)
    assert "SECRET" not in str(failure.value)


@EACH
def test_options_of_whoever_asks(place: Place) -> None:
    """They are read elsewhere, whatever the engine."""
    point = place.open(subject_type="identity", claims=["email"])
    assert point.judge(ask("alice")).effect is not Effect.INDETERMINATE


@pytest.mark.parametrize("engine", ["local"])
def test_a_local_policy_in_the_options(place: Place) -> None:
    """In place of the file, and not beside it."""
    table = {"rules": [{"name": "r"}]}
    with pytest.raises(ConfigError, match="no use beside"):
        place.open(**table)
    given = {"issuer": "https://as.example", "audience": "orders", "policy": "local"}
    point = open_point(Settings(**given, policy_options=table), Surroundings())
    assert isinstance(point, AtOnce)
    assert point.judge(ask()).effect is Effect.PERMIT
    with pytest.raises(ConfigError, match=r"BEARER_POLICY_OPTIONS: .*unknown member"):
        open_point(Settings(**given, policy_options={"rule": []}), Surroundings())


@pytest.mark.parametrize(
    ("engine", "module"), [("cedar", "cedarpy"), ("casbin", "casbin"), ("rego", "opa_eval")]
)
def test_an_engine_that_is_missing_names_its_extra(
    place: Place, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server is built, and not at the first request."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("bearer_middleware.policy.rego.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"bearer-middleware\[{place.engine}\]"):
        place.open()


@EACH
def test_no_other_engine_is_imported(place: Place) -> None:
    """Nor anything that makes threads or sockets, beside what settings import."""
    program = (
        "import sys, threading\n"
        "from bearer_middleware.policy.opening import open_point\n"
        "from bearer_middleware.policy.point import Surroundings\n"
        "from bearer_middleware.settings import Settings\n"
        f"options = {{'model': {str(place.model)!r}}} if {place.engine!r} == 'casbin' else {{}}\n"
        "settings = Settings(issuer='https://as.example', audience='orders', "
        f"policy={place.engine!r}, policy_file={str(place.path)!r}, policy_options=options)\n"
        "open_point(settings, Surroundings())\n"
        "print(threading.active_count(), *{'cedarpy', 'casbin', 'opa_eval', 'regopy'} "
        "& sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    module = {"cedar": "cedarpy", "casbin": "casbin", "rego": "opa_eval"}.get(place.engine, "")
    assert done.stdout.split() == ["1", *([module] if module else [])]
