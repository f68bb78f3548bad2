"""The files that settings name. Each is read once here, so that a bad one is told at start."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bearer_middleware.settings.parsing import Unreadable, is_list, is_table, path, secret
from bearer_middleware.settings.routes import placed
from bearer_middleware.settings.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

KEY_SET_LIMIT = 256 * 1024
KEY_LIMIT = 100
_PEM_LIMIT = 4 * 1024 * 1024
_TEXT_LIMIT = 1024 * 1024
_STRONG_RSA = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


def contents(name: str, limit: int) -> bytes:
    """All of a regular file. Pipes and devices are refused: they might never end."""
    try:
        data = _read(Path(name), limit + 1)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "not a file name"
        raise Unreadable(f"names a file that cannot be read: {why}") from None
    if len(data) > limit:
        raise Unreadable(f"names a file of more than {limit} bytes")
    return data


def kept_secret(name: str) -> Secret:
    """The secret in a file, without the newline that editors leave at its end."""
    try:
        written = contents(name, _TEXT_LIMIT).decode()
    except UnicodeDecodeError:
        raise Unreadable("names a file that is not UTF-8 text") from None
    try:
        return secret(re.sub(r"\r?\n\Z", "", written))
    except Unreadable as error:
        raise Unreadable(f"names a file whose content {error}") from None


def toml(name: str) -> dict[str, Any]:
    """The settings in a TOML file."""
    import tomllib

    data = contents(name, _TEXT_LIMIT)
    try:
        written = data.decode()
        read = tomllib.loads(written)
    except (ValueError, RecursionError) as error:
        # The parser's own words may quote the file, and there are secrets in it.
        where = re.search(r"line \d+", str(error))
        raise Unreadable(
            f"names a file that is not TOML{f', {where[0]}' if where else ''}"
        ) from None
    if "routes" in read:
        read["routes"] = placed(read["routes"], written)
    return read


def key_set(value: object) -> str:
    """The path of a JSON Web Key Set. Which of its keys are usable is seen where they are used."""
    name = path(value)
    data = contents(name, KEY_SET_LIMIT)
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError):
        raise Unreadable("names a file that is not JSON") from None
    keys = document.get("keys") if is_table(document) else None
    if not is_list(keys) or not 0 < len(keys) <= KEY_LIMIT:
        raise Unreadable(f'names a file without "keys", a list of 1 to {KEY_LIMIT} keys')
    if not all(is_table(key) for key in keys):
        raise Unreadable('names a file with something in "keys" that is not an object')
    return name


def authorities(value: object) -> str:
    """The path of a PEM bundle with at least one certificate."""
    import ssl

    name = path(value)
    contents(name, _PEM_LIMIT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError):
        context.load_verify_locations(cafile=name)
    if not context.cert_store_stats()["x509"]:
        raise Unreadable("names a file without a PEM certificate")
    return name


def private_key(value: object) -> str:
    """The path of an unencrypted PEM private key that is fit for signing."""
    name = path(value)
    _load_key(name)
    return name


def certificate(value: object) -> str:
    """The path of a PEM certificate."""
    name = path(value)
    _load_certificate(name)
    return name


def audit(value: object) -> str:
    """``log``, or the path of a file that can be appended to; it need not be there yet."""
    name = path(value)
    if name == "log":
        return name
    try:
        file = Path(name)
        place = file if file.exists() else file.parent
        good = os.access(place, os.W_OK) and place.is_dir() == (place != file)
    except (OSError, ValueError):
        good = False
    if not good:
        raise Unreadable("must be log, or name a file that can be written to")
    return name


def require_pair(certificate_file: str, key_file: str | None) -> None:
    """The key, which may be in the certificate's file, must be the certificate's."""
    key = _load_key(key_file or certificate_file)
    if _load_certificate(certificate_file) != key.public_key():
        raise Unreadable("names a certificate that belongs to another key")


def _read(file: Path, size: int) -> bytes:
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with file.open("rb") as opened:
        return opened.read(size)


def _load_key(name: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = contents(name, _PEM_LIMIT)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise Unreadable(
            "names a file whose key is encrypted; store it without a pass phrase"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unreadable("names a file without a PEM private key") from None
    if not _is_fit(key):
        raise Unreadable(
            "names a key that is none of RSA (2048 bits or more), P-256, P-384, P-521, Ed25519"
        )
    return key


def _is_fit(key: PrivateKeyTypes) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, rsa.RSAPrivateKey):
        return key.key_size >= _STRONG_RSA
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.curve.name in _CURVES
    return isinstance(key, ed25519.Ed25519PrivateKey)


def _load_certificate(name: str) -> object:
    """The public key of the first certificate in a file."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import load_pem_x509_certificate

    data = contents(name, _PEM_LIMIT)
    try:
        return load_pem_x509_certificate(data).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Unreadable("names a file without a PEM certificate") from None
