"""A served issuer, the variables of an API that trusts it, and the commands with their output."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from bearer_middleware.commands.check import check
from bearer_middleware.commands.explain import explain
from bearer_middleware.testing import Issuer

#: Stands in secrets and in tokens, and must never stand in what a command prints.
CANARY = "c4n4ry"


@dataclass(frozen=True)
class Told:
    """What a command printed, and its exit status."""

    status: int
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def of(self, level: str) -> dict[str, str]:
        """The findings of a level: by name, what is said."""
        pairs = (line[6:].partition(": ") for line in self.lines if line[:6].strip() == level)
        return {name: text for name, _, text in pairs}


Tell = Callable[..., Told]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Served on loopback, with a secret that would be recognised."""
    with Issuer(client_secret=f"{CANARY}-secret-{'s' * 40}").serve() as issuer:
        yield issuer


@pytest.fixture
def canary() -> str:
    """What must never stand in what a command prints."""
    return CANARY


@pytest.fixture
def variables(issuer: Issuer) -> Callable[..., dict[str, str]]:
    """The settings of an API that trusts the issuer as variables; ``None`` leaves one out."""

    def named(**overrides: Any) -> dict[str, str]:
        settings = issuer.settings(**overrides)
        return {f"BEARER_{name.upper()}": str(v) for name, v in settings.items() if v is not None}

    return named


@pytest.fixture
def checked(variables: Callable[..., dict[str, str]]) -> Tell:
    """What ``check`` says of an API that trusts the issuer, with some settings changed."""

    def run(
        environ: Mapping[str, str] | None = None, token: str | None = None, **overrides: Any
    ) -> Told:
        out = io.StringIO()
        header = None if token is None else f"Bearer {token}".encode()
        said = variables(**overrides) if environ is None else environ
        status = check(said, out, authorization=header)
        assert CANARY not in out.getvalue()
        return Told(status, out.getvalue())

    return run


@pytest.fixture
def explained(variables: Callable[..., dict[str, str]]) -> Tell:
    """What ``explain`` says of a token to an API that trusts the issuer."""

    def run(token: str | bytes, **overrides: Any) -> Told:
        out = io.StringIO()
        header = token if isinstance(token, bytes) else f"Bearer {token}".encode()
        status = explain(variables(**overrides), header, out)
        told = Told(status, out.getvalue())
        assert_hidden(told.text, header.decode("latin-1"))
        return told

    return run


def assert_hidden(text: str, header: str) -> None:
    """Neither the token nor a part of it is to be seen."""
    token = header.partition(" ")[2]
    assert CANARY not in text
    for part in (token, *token.split(".")):
        assert len(part) < 12 or part not in text
