"""What nearly every request costs: a token seen before is looked up, and that is all.

What a key signed that was removed since, or that we cannot vouch for now, is not served. These are
closures, because an attribute of ``self`` is looked up anew each time, and there would be a dozen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from bearer_middleware.access.identity import Identity, Unsealed
from bearer_middleware.errors import Refused
from bearer_middleware.flow.ring import Entry
from bearer_middleware.issuer.keys import Keys
from bearer_middleware.memory.places import Memory
from bearer_middleware.revocation.state import Revocations

_sha256 = hashlib.sha256
_SLOT = 10  # behind the ten items of an entry the ring wrote its slot
_DOT = ord(".")

#: The identity of an Authorization header, where nobody has to be asked. ``None`` says nothing: the
#: whole way has to be gone. Raises ``Refused``.
Identify = Callable[[bytes], Identity | None]
#: The same for what is not remembered, and for what is but has more to pass; it raises nothing.
#: Given are the header, its digest, and the good entry there may be.
Otherwise = Callable[[bytes, bytes, Entry | None], Identity | Refused | None]


def remembering(  # noqa: C901, PLR0917 - calls are what it saves
    memory: Memory,
    all_keys: Sequence[Keys],
    revocations: Revocations,
    otherwise: Otherwise,
    longest: int,
    restricted: bool,
) -> Identify:
    """Look headers of up to ``longest`` bytes up; who passes may be ``restricted`` further."""
    find, touched, answer = memory.verified.find, memory.verified.touched, memory.introspected.get
    wall, monotonic, hits = memory.now, memory.monotonic, memory.served.hits

    def identify(value: bytes) -> Identity | None:
        digest, entry = b"", None
        try:
            if len(value) <= longest:
                entry = find(digest := _sha256(value).digest())
                if entry is None:
                    entry = answer(digest)
                else:
                    touched[entry[_SLOT]] = 1
                if entry is not None:
                    now, serial, keys = monotonic(), entry[3], all_keys[entry[4]]
                    known = serial is None or (serial in keys.serials and now < keys.settled_until)
                    if now >= entry[2] or wall() >= entry[1] or not known:
                        entry = None
                    elif revocations.state is None and not restricted:
                        hits[entry[4]][entry[7]] += 1  # its server and its flags
                        identity: Any = Unsealed()
                        identity._facts, identity.__class__ = entry, Identity
                        return identity  # type: ignore[no-any-return]
            found = otherwise(value, digest, entry)
        except Exception:  # noqa: BLE001 - the whole way meets it again, and makes a 503 of it
            return None
        if found is None or type(found) is Identity:
            return found
        del value  # nor do the frames of a refusal hold the token
        raise found

    return identify


def verifying(otherwise: Otherwise, identify: Identify) -> Identify:
    """Where no JWT is remembered, there is no use in looking for one before ``otherwise``."""

    def identify_afresh(value: bytes) -> Identity | None:
        if _DOT in value:
            try:
                found = otherwise(value, b"", None)
            except Exception:  # noqa: BLE001 - as above
                return None
            if found is not None:
                if type(found) is Identity:
                    return found
                del value
                raise found
        return identify(value)

    return identify_afresh


def say_nothing(value: bytes) -> None:
    """Where extensions may have to wait for something, all requests go the whole way."""
