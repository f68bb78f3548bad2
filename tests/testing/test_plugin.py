"""The fixtures, in pytest runs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bearer_middleware import testing

ROOT = Path(__file__).parents[2]
PLUGIN = "bearer_middleware.testing.pytest_plugin"

USER_TESTS = """
import httpx, pytest

seen = []

def test_served(bearer_issuer, bearer_token):
    assert httpx.get(bearer_issuer.url + "/jwks").json() == bearer_issuer.jwks
    facts = bearer_issuer.introspect(bearer_token(sub="bob", scope="read write", exp=9**10))
    assert (facts["sub"], facts["scope"], facts["exp"]) == ("bob", "read write", 9**10)
    assert bearer_issuer.introspect(bearer_token("bob", kind="opaque"))["sub"] == "bob"
    assert bearer_token().count(".") == 2
    with pytest.raises(ValueError, match="jwe"):
        bearer_token(kind="jwe")

@pytest.mark.parametrize("turn", [1, 2])
def test_fresh_each_time_with_a_key_of_before(bearer_issuer, turn):
    assert not bearer_issuer.requests
    seen.append((bearer_issuer.jwks["keys"][0]["n"], bearer_issuer.kid))
    if turn == 2:
        (key, name), (same_key, other_name) = seen
        assert key == same_key and name != other_name
"""

LIGHT = f"""
import sys
import {PLUGIN}
heavy = {{"jwt", "cryptography", "httpx", "http.server", "starlette"}} & set(sys.modules)
assert not heavy, heavy
assert "bearer_middleware.testing.issuer" not in sys.modules
"""


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python with this checkout on its path and no plugin but those named."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_fixtures(tmp_path: Path) -> None:
    """They serve and mint, and one test after another gets a fresh issuer with an old key."""
    (tmp_path / "test_user.py").write_text(USER_TESTS)
    done = run("-m", "pytest", "-q", "-W", "error", "-p", PLUGIN, str(tmp_path), cwd=tmp_path)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_importing_the_plugin_is_light() -> None:
    """Who asks for no issuer pays for none."""
    done = run("-c", LIGHT)
    assert done.returncode == 0, done.stderr


def test_the_package_has_one_name() -> None:
    """Any other is an AttributeError, as of any module."""
    assert testing.__all__ == ["Issuer"]
    with pytest.raises(AttributeError, match="issure"):
        getattr(testing, "issure")  # noqa: B009 - type checkers see the misspelling
