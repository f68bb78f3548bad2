"""The fixtures ``bearer_issuer`` and ``bearer_token``, found by pytest once this is installed.

Every pytest run of every user imports this file: what the fixtures need is imported by them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest

if TYPE_CHECKING:
    from bearer_middleware.testing import Issuer


class MintToken(Protocol):
    """What ``bearer_token`` is: it mints a token of the test's issuer."""

    def __call__(
        self,
        sub: str | None = "alice",
        scope: str | None = "read",
        *,
        kind: Literal["jwt", "opaque"] = "jwt",
        **claims: Any,
    ) -> str: ...


@pytest.fixture
def bearer_issuer() -> Iterator[Issuer]:
    """An authorization server on a loopback port, fresh for each test.

    Override it in a ``conftest.py`` for another audience: ``bearer_token`` follows.
    """
    from bearer_middleware.testing import Issuer

    with Issuer().serve() as issuer:
        yield issuer


@pytest.fixture
def bearer_token(bearer_issuer: Issuer) -> MintToken:
    """A function that mints: ``bearer_token(scope="read write", kind="opaque")``."""

    def mint(
        sub: str | None = "alice",
        scope: str | None = "read",
        *,
        kind: Literal["jwt", "opaque"] = "jwt",
        **claims: Any,
    ) -> str:
        if kind not in ("jwt", "opaque"):
            raise ValueError(f"a token is jwt or opaque, not {kind!r}")
        make: Callable[..., str] = bearer_issuer.jwt if kind == "jwt" else bearer_issuer.opaque
        return make(sub, scope, **claims)

    return mint


def pytest_runtest_logfinish() -> None:
    """A test is over, so its RSA keys may serve another: making one takes 40 ms and more."""
    keys = sys.modules.get("bearer_middleware.testing.keys")
    if keys is not None:
        keys.recycle()
