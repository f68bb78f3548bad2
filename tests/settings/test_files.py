"""The files that settings name: a bad one is told at start, in words of ours."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from .conftest import Mistakes

Write = Callable[[str, str | bytes], str]
Pem = dict[str, bytes]


@pytest.mark.parametrize(
    "name",
    [
        "jwks_file",
        "jwks_bootstrap_file",
        "ca_file",
        "client_key_file",
        "client_cert_file",
        "hmac_secret_file",
        "config_file",
    ],
)
def test_no_such_file(mistakes: Mistakes, tmp_path: Path, name: str) -> None:
    """A file that is missing, a directory or a pipe is a mistake, and nobody waits for it."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe", "x" * 9000):
        assert mistakes(**{name: path})[0].startswith(
            f"BEARER_{name.upper()}: names a file that cannot be read: "
        )


@pytest.mark.parametrize("count", [1, 100])
def test_key_set(mistakes: Mistakes, write: Write, count: int) -> None:
    """A key set is an object with 1 to 100 keys; which are usable is seen elsewhere."""
    assert mistakes(jwks_file=write("keys", json.dumps({"keys": [{"kty": "x"}] * count}))) == []


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "5", "{}", '{"keys": {}}', '{"keys": []}', '{"keys": ["x"]}', "[" * 100_000),
        *(json.dumps({"keys": [{}] * 101}), '{"keys": [{}]}' + " " * 262_144, b"\xff\xfe"),
    ],
    ids=range(11),
)
def test_no_key_set(mistakes: Mistakes, write: Write, content: str | bytes) -> None:
    """Anything else is a mistake."""
    (wrong,) = mistakes(jwks_file=write("keys", content))
    assert wrong.startswith("BEARER_JWKS_FILE: names a file ")


def test_keys_come_from_one_place(mistakes: Mistakes, write: Write) -> None:
    """A key set beside another source of keys is a mistake."""
    (wrong,) = mistakes(jwks_file=write("k", '{"keys":[{}]}'), jwks_url="https://as.example/k")
    assert wrong.startswith("BEARER_JWKS_FILE: beside BEARER_JWKS_URL")


def test_authorities(mistakes: Mistakes, write: Write, pem: Pem) -> None:
    """A bundle of authorities holds at least one certificate."""
    assert mistakes(ca_file=write("ca", pem["certificate"])) == []
    for other in (b"", b"text", pem["key"], pem["certificate"][:100]):
        (wrong,) = mistakes(ca_file=write("ca", other))
        assert wrong == "BEARER_CA_FILE: names a file without a PEM certificate"


def test_private_key(mistakes: Mistakes, write: Write, pem: Pem) -> None:
    """A key for private_key_jwt is a plain PEM key, strong enough."""
    weak = rsa.generate_private_key(65537, 1024)
    weak_pem = weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    edwards = ed25519.Ed25519PrivateKey.generate()
    edwards_pem = edwards.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    told = {
        "key": None,
        "edwards": None,
        "encrypted": "names a file whose key is encrypted",
        "odd": "names a key that is none of RSA",
        "weak": "names a key that is none of RSA",
        "certificate": "names a file without a PEM private key",
    }
    for name, wrong in told.items():
        path = write(name, (pem | {"weak": weak_pem, "edwards": edwards_pem})[name])
        found = mistakes(client_auth="private_key_jwt", client_id="api", client_key_file=path)
        expected = [f"BEARER_CLIENT_KEY_FILE: {wrong}"] if wrong else []
        assert [mistake[: len(expected[0])] for mistake in found] == expected


def test_certificate(mistakes: Mistakes, write: Write, pem: Pem) -> None:
    """A certificate for tls_client_auth comes with its own key, in the same file or beside."""
    certificate = write("certificate", pem["certificate"])
    together = write("together", pem["certificate"] + pem["key"])
    key, other = write("key", pem["key"]), write("other", pem["other"])
    tls = {"client_auth": "tls_client_auth", "client_id": "api"}
    assert mistakes(client_cert_file=together, **tls) == []
    assert mistakes(client_cert_file=certificate, client_key_file=key, **tls) == []
    for found in (
        mistakes(client_cert_file=certificate, **tls),
        mistakes(client_cert_file=certificate, client_key_file=other, **tls),
        mistakes(client_cert_file=key, client_key_file=key, **tls),
    ):
        assert [one.partition(":")[0] for one in found] == ["BEARER_CLIENT_CERT_FILE"]
