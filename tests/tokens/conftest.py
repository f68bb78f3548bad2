"""Gates, and the issuers behind them."""

import pytest

from bearer_middleware.testing import Issuer
from tests.tokens.forging import Gate, SecretGate, gate_of


@pytest.fixture
def gate() -> Gate:
    """Trusts a shared secret, so every token of `forge` is correctly signed."""
    return SecretGate()


@pytest.fixture
def issuer() -> Issuer:
    """Signs with ES256; its introspection endpoint knows what a test tells it."""
    return Issuer(algorithm="ES256")


@pytest.fixture
def asking(issuer: Issuer) -> Gate:
    """Validates the JWTs of `issuer` itself and asks it about opaque tokens."""
    return gate_of(issuer)
