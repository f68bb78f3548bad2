"""How tests ask for a mistake, and the files that settings name."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from bearer_middleware.errors import ConfigError
from bearer_middleware.settings import Settings

Mistakes = Callable[..., list[str]]


@pytest.fixture
def mistakes() -> Mistakes:
    """What is wrong with these keywords, beside an issuer and an audience that are right."""

    def find(**keywords: Any) -> list[str]:
        given: dict[str, Any] = {"issuer": "https://as.example", "audience": "orders"} | keywords
        try:
            Settings(**given)
        except ConfigError as error:
            return list(error.mistakes)
        return []

    return find


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Write a file and get its path."""

    def store(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return store


def private_pem(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    """The key, encrypted where there is a password."""
    lock: KeySerializationEncryption = NoEncryption()
    if password:
        lock = BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def certificate_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate that the key signs for itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orders")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = builder.not_valid_before(start)
    builder = builder.not_valid_after(start + datetime.timedelta(days=3650))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture(scope="session")
def pem() -> dict[str, bytes]:
    """A key, plain and encrypted, one of a curve nobody signs with, another, a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    return {
        "key": private_pem(key),
        "encrypted": private_pem(key, b"pass phrase"),
        "odd": private_pem(ec.generate_private_key(ec.SECP256K1())),
        "other": private_pem(ec.generate_private_key(ec.SECP256R1())),
        "certificate": certificate_pem(key),
    }
