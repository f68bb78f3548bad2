"""Keywords over variables over the file: where settings are written, and which one wins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import bearer_middleware
from bearer_middleware.errors import ConfigError
from bearer_middleware.settings import Secret, Settings

from .conftest import Mistakes

Write = Callable[[str, str | bytes], str]
GOOD = {"BEARER_ISSUER": "https://as.example", "BEARER_AUDIENCE": "orders"}


def test_variables_and_keywords_say_the_same() -> None:
    """The same settings, as variables, as keywords of text or of natural types, are equal."""
    environ = GOOD | {"BEARER_LEEWAY": "1m", "BEARER_OPTIONAL": "true", "PATH": "/bin"}
    words: dict[str, Any] = {"issuer": "https://as.example", "audience": ["orders"]}
    assert Settings.from_env(environ) == Settings(leeway=60, optional=True, **words)
    assert Settings.from_env({}, leeway="60s", optional="yes", **words) == Settings.from_env(
        environ
    )


def test_a_keyword_wins() -> None:
    """A keyword wins over its variable, unless it is None."""
    environ = GOOD | {"BEARER_LEEWAY": "nonsense"}
    assert Settings.from_env(environ, leeway=5).leeway == 5
    assert Settings.from_env(GOOD, issuer=None).issuer == "https://as.example"


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings() is explicit; only from_env looks at the environment, at the time of the call."""
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError):
        Settings()
    assert Settings.from_env().issuer == "https://as.example"


def test_unknown_variable() -> None:
    """A variable nobody knows is a warning that names the nearest known one."""
    wanted = (
        "BEARER_AUDIENSE: unknown variable, not read; the nearest known one is BEARER_AUDIENCE$"
    )
    with pytest.warns(UserWarning, match=wanted) as caught:
        Settings.from_env(GOOD | {"BEARER_AUDIENSE": "x", "bearer_audience": "x"})
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_hostile_variable_name() -> None:
    """The name of a variable cannot write a second line into a log."""
    with pytest.warns(UserWarning, match="unknown variable") as caught:
        Settings.from_env(GOOD | {"BEARER_A\nFAKE " + "x" * 9000: "x"})
    assert "\n" not in str(caught[0].message)
    assert len(str(caught[0].message)) < 200


def test_unknown_keyword(mistakes: Mistakes) -> None:
    """A keyword nobody knows is a mistake, and the nearest known one is named."""
    assert mistakes(leewey=3) == ["leewey: unknown setting; the nearest known one is leeway"]


@pytest.mark.parametrize("name", ["BEARER_REALM", "REALM", "Realm", "bearer_realm"])
def test_variable_among_keywords(mistakes: Mistakes, name: str) -> None:
    """Who writes a variable's name as a keyword, or into the file, is told the keyword."""
    assert mistakes(**{name: "x"}) == [f"{name}: unknown setting; the nearest known one is realm"]


@pytest.mark.parametrize("content", ["s3cret", "s3cret\n", "s3cret\r\n"])
def test_secret_in_a_file(write: Write, content: str) -> None:
    """A secret may be in a file, without the newline at its end; the file's name is kept."""
    path = write("secret", content)
    environ = GOOD | {"BEARER_CLIENT_ID": "api", "BEARER_CLIENT_SECRET_FILE": path}
    settings = Settings.from_env(environ)
    assert settings.client_secret == settings.issuers[0].client_secret == Secret("s3cret")
    assert settings.issuers[0].client_secret_file == path


@pytest.mark.parametrize("content", ["", "\n", "two\nlines\n", "s3cret\n\n", b"\xff" * 40, b"\x00"])
def test_secret_file_with_something_else(
    mistakes: Mistakes, write: Write, content: str | bytes
) -> None:
    """A secret file that is empty, binary or of several lines is a mistake."""
    (wrong,) = mistakes(client_id="api", client_secret_file=write("secret", content))
    assert wrong.startswith("BEARER_CLIENT_SECRET_FILE: names a file")


def test_secret_given_twice(mistakes: Mistakes, write: Write) -> None:
    """A secret and its file in one place are a mistake; from a nearer place one of them wins."""
    path = write("secret", "from the file")
    both = mistakes(client_id="api", client_secret="x", client_secret_file=path)
    assert both == ["BEARER_CLIENT_SECRET: is also given as BEARER_CLIENT_SECRET_FILE; keep one"]
    environ = GOOD | {"BEARER_CLIENT_ID": "api", "BEARER_CLIENT_SECRET_FILE": path}
    settings = Settings.from_env(environ, client_secret="from the keyword")
    assert settings.client_secret == Secret("from the keyword")
    assert settings.client_secret_file is None


TOML = """
audience = ["orders"]
leeway = 5
optional = true
realm = "file"

[[issuers]]
issuer = "https://one.example"

[[issuers]]
issuer = "https://two.example"
audience = "invoices"
client_id = "api"
client_secret_file = "SECRET"
"""


def test_file(write: Write) -> None:
    """A TOML file has the same names in lower case; variables win over its top level."""
    path = write("bearer.toml", TOML.replace("SECRET", write("secret", "s3cret\n")))
    environ = {"BEARER_CONFIG_FILE": path, "BEARER_REALM": "variable", "BEARER_LEEWAY": "7"}
    settings = Settings.from_env(environ, leeway=9)
    assert (settings.realm, settings.leeway, settings.optional) == ("variable", 9, True)
    assert settings.config_file == path
    first, second = settings.issuers
    assert (first.audience, second.audience) == (("orders",), ("invoices",))
    assert second.client_secret == Secret("s3cret")
    assert Settings(config_file=path, realm="variable", leeway=9) == settings


def test_issuer_beside_tables(write: Write) -> None:
    """BEARER_ISSUER beside [[issuers]] is a mistake."""
    path = write("bearer.toml", 'audience = "x"\n[[issuers]]\nissuer = "https://one.example"\n')
    with pytest.raises(ConfigError, match=r"BEARER_ISSUER: .*\[\[issuers\]\]"):
        Settings.from_env({"BEARER_CONFIG_FILE": path, "BEARER_ISSUER": "https://as.example"})


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("leewey = 3", "leewey: unknown setting; the nearest known one is leeway"),
        ("[[routes]]\npath = '/'", "BEARER_ROUTES: [[routes]] #1 (line 1) needs a method"),
        ("config_file = 'x'", "BEARER_CONFIG_FILE: is named in the file itself; one file is read"),
        ("leeway = 2026-01-01", "BEARER_LEEWAY: must be a duration"),
        ("[realm]\nx = 1", "BEARER_REALM: must be text"),
        ("issuers = 5", "BEARER_ISSUER: is one issuer's"),
        ("=", "BEARER_CONFIG_FILE: names a file that is not TOML, line 1"),
        (b"\xff", "BEARER_CONFIG_FILE: names a file that is not TOML"),
        ("a = " + "[" * 5000, "BEARER_CONFIG_FILE: names a file that is not TOML"),
        ("#" * 1_048_577, "BEARER_CONFIG_FILE: names a file of more than 1048576 bytes"),
    ],
)
def test_file_with_mistakes(
    mistakes: Mistakes, write: Write, content: str | bytes, wrong: str
) -> None:
    """What is wrong in the file is a mistake like any other."""
    assert mistakes(config_file=write("bearer.toml", content))[0].startswith(wrong)


def test_no_file(mistakes: Mistakes) -> None:
    """Without the file nothing else can be missed, but what is wrong by itself is told."""
    found = mistakes(config_file="/nowhere.toml", audience=None, leeway="x")
    assert found == [
        "BEARER_CONFIG_FILE: names a file that cannot be read: No such file or directory",
        "BEARER_LEEWAY: must be a duration from 0 to 120 seconds, such as 30, 30s, 5m or 24h",
    ]


def test_light_import() -> None:
    """Settings that name no file load no client, framework, TOML parser or cryptography."""
    heavy = "httpx starlette pydantic asyncio tomllib difflib cryptography ssl jwt"
    code = (
        # The package's front door loads more than settings; go past it.
        "import sys, types; front = sys.modules['bearer_middleware'] = types.ModuleType('front');"
        f"front.__path__ = {list(bearer_middleware.__path__)!r};"
        "from bearer_middleware.settings import Settings;"
        "Settings(issuer='https://as.example', audience='orders');"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert done.stdout.strip() == "[]"
