"""The command line: what it takes, what it returns, and where tokens come from."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.__main__ import main
from bearer_middleware.testing import Issuer

Variables = Callable[..., dict[str, str]]
Piped = Callable[..., None]


class Terminal(io.StringIO):
    """Somebody at a keyboard."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Piped:
    """Put this on standard input."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


@pytest.fixture
def environment(variables: Variables, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of an API that trusts the issuer."""
    for name, value in variables().items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["dance"],
        ["check", "--loud"],
        ["demo", "--asgi-port", "65536"],
        ["demo", "--wsgi-port", "-1"],
        ["demo", "--issuer-port", "http"],
    ],
)
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What is not understood is answered with 2 and a hint."""
    assert main(argv) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", [None, "demo", "check", "explain"])
def test_help(command: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Help is there for each command, and names the exit statuses."""
    assert main([command, "--help"] if command else ["--help"]) == 0
    assert "Exit status: 0" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is told."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("bearer-middleware ")


@pytest.mark.parametrize("command", [["explain"], ["check", "--token"]])
@pytest.mark.parametrize("stdin", [Terminal("c4n4ry"), io.StringIO(" \n"), io.StringIO(""), None])
def test_no_token(
    command: list[str],
    stdin: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a token, or with a terminal in its place, that is said, and the status is 2."""
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(command) == 2
    assert "standard input" in capsys.readouterr().err


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "form", ["{}", "{}\n", "Bearer {}\r\n", "bearer   {}", " Authorization: Bearer {} \n"]
)
def test_forms_of_a_token(
    form: str, issuer: Issuer, piped: Piped, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bare token, a header's value or a whole header, whatever space is around it."""
    piped(form.format(issuer.jwt()).encode())
    assert main(["explain"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("accepted: ")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"Bearer", b"x" * 300_000])
def test_no_token_at_all(data: bytes, piped: Piped) -> None:
    """Bytes that were never a token are refused like any bad one."""
    piped(data)
    assert main(["explain"]) == 1


@pytest.mark.usefixtures("environment")
def test_text_without_bytes(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard input that has only text will do."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(issuer.jwt()))
    assert main(["explain"]) == 0


@pytest.mark.usefixtures("environment")
def test_check(issuer: Issuer, piped: Piped, capsys: pytest.CaptureFixture[str]) -> None:
    """``check`` reads the environment, and with ``--token`` shows a token to its server."""
    assert main(["check"]) == 0
    piped(issuer.opaque(aud=None).encode())
    assert main(["check", "--token"]) == 0
    assert "warn  BEARER_INTROSPECTION_AUDIENCE" in capsys.readouterr().out


def test_config(issuer: Issuer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The settings may come from a file that is named on the command line."""
    file = tmp_path / "bearer.toml"
    file.write_text(f'issuer = "{issuer.url}"\naudience = "api"\nallow_insecure_http = true\n')
    assert main(["check", "--config", str(file)]) == 0
    assert main(["check", "--config", str(tmp_path / "none.toml")]) == 1
    assert "fail  BEARER_CONFIG_FILE" in capsys.readouterr().out


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command without a traceback."""

    def interrupt(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("bearer_middleware.commands.check.check", interrupt)
    assert main(["check"]) == 1


def test_module(issuer: Issuer, variables: Variables) -> None:
    """``python -m bearer_middleware`` is the same command, its output plain ASCII."""
    done = subprocess.run(
        [sys.executable, "-m", "bearer_middleware", "check"],
        env={**variables(audience="café"), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()


def test_reader_goes_away() -> None:
    """Output that nobody reads any more (``| head -1``) ends a command without a traceback."""
    command = [sys.executable, "-m", "bearer_middleware", "check"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_output_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a text holds, it cannot steer the terminal."""
    from bearer_middleware.commands.findings import tell

    tell(["a\x1b[31m\nü"], sys.stdout)
    assert capsys.readouterr().out == "a\\x1b[31m\\n\\xfc\n"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://as/keys?key=c4n4ry#c4n4ry", "https://as/keys"),
        ("https://c4n4ry:c4n4ry@[::1]:80/x", "https://[::1]:80/x"),
        ("https://[", "(not a URL)"),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, shown: str) -> None:
    """A query or a password in a URL is nobody's to read."""
    from bearer_middleware.commands.findings import address

    assert address(url) == shown
