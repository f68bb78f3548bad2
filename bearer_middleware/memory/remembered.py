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

_DOT = ord(".")

#: The identity of an Authorization header, where nobody has to be asked. ``None`` says nothing: the
#: whole way has to be gone. Raises ``Refused``.
Identify = Callable[[bytes], Identity | None]
#: The same for what is not remembered, and for what is but has more to pass; it raises nothing.
#: Given are the header, its digest, and the good entry there may be.
Otherwise = Callable[[bytes, bytes, Entry | None], Identity | Refused | None]
#: What is remembered, the keys by the number of their server, and what is revoked.
Parts = tuple[Memory, Sequence[Keys], Revocations]


def remembering(parts: Parts, otherwise: Otherwise, longest: int, restricted: bool) -> Identify:  # noqa: C901, PLR0915
    """Look headers of up to ``longest`` bytes up; who passes may be ``restricted`` further."""
    memory, all_keys, revocations = parts
    find, touched, answer, wall, monotonic, watched, hits = memory.at_hand()
    blank = hashlib.sha256().copy  # to copy what was fed nothing touches less than to make one

    def identify(value: bytes) -> Identity | None:  # noqa: C901
        try:
            if len(value) > longest:
                found = otherwise(value, b"", None)
            else:
                hashed = blank()
                hashed.update(value)
                entry = find(digest := hashed.digest())
                if entry is None:
                    entry = answer(digest)
                else:
                    touched[entry[10]] = 1  # behind its ten items the ring wrote its slot
                if entry is not None:
                    now, keys = monotonic(), all_keys[entry[4]]
                    held = now < keys.settled_until and entry[3] in keys.serials
                    if now >= entry[2] or wall() >= entry[1] or not (held or entry[3] is None):
                        entry = None
                    elif revocations.state is None and not restricted:
                        if watched:
                            hits[entry[4]][entry[7]] += 1  # its server and its flags
                        identity: Any = Unsealed()
                        identity._facts, identity.__class__ = entry, Identity
                        return identity  # type: ignore[no-any-return]
                found = otherwise(value, digest, entry)
        except Exception:  # noqa: BLE001 - the whole way meets it again, and makes a 503 of it
            return None
        if found is None or type(found) is Identity:
            return found
        del value  # the frames of a refusal do not hold the token
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
            if type(found) is Identity:
                return found
            if found is not None:
                del value
                raise found
        return identify(value)

    return identify_afresh


def say_nothing(value: bytes) -> None:
    """Where extensions may have to wait for something, all requests go the whole way."""
