"""Is this a signature of that key? As PyJWT verifies, but what is the same for every signature is
made once: the keys are PyJWT's, and OpenSSL does the work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

# The beginning of DigestInfo (RFC 8017 section 9.2, note 1), behind which the hash stands.
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
#: ``(signing_input, signature)``: is this a signature of that key? Never raises: what breaks the
#: check fails it.
Verifies = Callable[[bytes, bytes], bool]
#: ``(signature, signing_input)``: returns for a good signature and raises for any other, as
#: ``verify`` of cryptography does.
_Check = Callable[[bytes, bytes], object]


def public_check(key: Any, algorithm: Any) -> Verifies:
    """The check of a public key that PyJWT loaded for this algorithm of its own."""
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

    if isinstance(algorithm, ECAlgorithm):
        return _never_raising(_ecdsa(key, algorithm.hash_alg()))
    if isinstance(algorithm, RSAPSSAlgorithm):
        return _never_raising(_rsa_pss(key, algorithm.hash_alg()))
    if isinstance(algorithm, RSAAlgorithm):
        return _rsa_pkcs1(key, algorithm.hash_alg())
    return _never_raising(key.verify)


def secret_check(algorithm: Any, secret: bytes) -> Verifies:
    """What a shared secret signed, by an HMAC algorithm of PyJWT."""

    def check(signature: bytes, signing_input: bytes) -> None:
        if not algorithm.verify(signing_input, secret, signature):
            raise ValueError("another signature")

    return _never_raising(check)


def _never_raising(check: _Check) -> Verifies:
    def verifies(signing_input: bytes, signature: bytes) -> bool:
        try:
            check(signature, signing_input)
        except Exception:  # noqa: BLE001 - OpenSSL and PyJWT raise many kinds on hostile input
            return False
        return True

    return verifies


def _rsa_pkcs1(key: Any, algorithm: Any) -> Verifies:
    """RFC 8017 section 8.2.2, in its own words: recover the encoded message, and compare it as a
    whole with what it has to be. OpenSSL looks at the padding and takes 7 % less time for that
    than for its own comparison.
    """
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    recover, padding = key.recover_data_from_signature, PKCS1v15()
    length = (key.key_size + 7) // 8  # whole octets, however many bits the first one has
    digest_of: Any = getattr(hashlib, algorithm.name)
    prefix = _DIGEST_INFO[algorithm.name]

    def verifies(signing_input: bytes, signature: bytes) -> bool:
        try:
            if len(signature) != length:
                return False
            encoded: bytes = prefix + digest_of(signing_input).digest()
            return bool(recover(signature, padding, None) == encoded)
        except Exception:  # noqa: BLE001 - as above
            return False

    return verifies


def _rsa_pss(key: Any, algorithm: Any) -> _Check:
    """RFC 7518 section 3.5: the same hash in MGF1, and a salt of its length."""
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS

    verify, padding = key.verify, PSS(MGF1(algorithm), algorithm.digest_size)
    return lambda signature, signing_input: verify(signature, signing_input, padding, algorithm)


def _ecdsa(key: Any, algorithm: Any) -> _Check:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    half, verify, ecdsa = (key.key_size + 7) // 8, key.verify, ECDSA(algorithm)
    integer = int.from_bytes

    def check(signature: bytes, signing_input: bytes) -> object:
        if len(signature) != 2 * half:
            raise ValueError("not two numbers of this curve")
        pair = integer(signature[:half]), integer(signature[half:])
        return verify(encode_dss_signature(*pair), signing_input, ecdsa)

    return check
