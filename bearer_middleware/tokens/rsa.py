"""RSA keys that must not be trusted: too short, an odd exponent, or made by a broken chip."""

from __future__ import annotations

import functools
from typing import Any

from bearer_middleware.tokens.text import decode_base64url

_MIN_BITS = 2048  # RFC 7518 section 3.3
_MAX_BITS = 8192  # longer ones cost their verifier too much
_MAX_EXPONENT_BITS = 64  # likewise, and OpenSSL's own limit for long keys

# CVE-2017-15361 (ROCA): the primes of a vulnerable chip are powers of 65537 modulo the
# product of these, so its moduli are too. A good key passes for one by a chance of 2**-154.
_ROCA_PRIMES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
    97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip


def reject_weak_rsa(modulus: Any, exponent: Any) -> None:
    """Raises ``ValueError`` where the members ``n`` and ``e`` of a JWK make no safe key."""
    n, e = _integer(modulus), _integer(exponent)
    if not _MIN_BITS <= n.bit_length() <= _MAX_BITS:
        raise ValueError(f"RSA modulus not of {_MIN_BITS} to {_MAX_BITS} bits")
    if e < 3 or e % 2 == 0 or e.bit_length() > _MAX_EXPONENT_BITS:
        raise ValueError("RSA exponent even, under 3 or huge")
    if is_roca(n):
        raise ValueError("RSA key with the ROCA weakness")


def is_roca(modulus: int) -> bool:
    """Has this modulus the fingerprint of CVE-2017-15361?"""
    return all(modulus % prime in powers for prime, powers in _fingerprint())


@functools.cache
def _fingerprint() -> tuple[tuple[int, frozenset[int]], ...]:
    return tuple(
        (prime, frozenset(pow(65537, exponent, prime) for exponent in range(prime)))
        for prime in _ROCA_PRIMES
    )


def _integer(member: Any) -> int:
    if not isinstance(member, str) or not member.isascii():
        raise ValueError("RSA member missing or not a string")
    return int.from_bytes(decode_base64url(member.encode()))
