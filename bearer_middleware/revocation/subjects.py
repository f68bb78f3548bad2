"""Whom an event is about (RFC 9493, SSF 1.0 section 3), in the words of our revocations.

* ``iss_sub`` is a subject of that issuer, ``jwt_id`` a token of it.
* ``opaque`` and ``email`` name no issuer: they are a ``sub`` of the one that is meant, which is
  the transmitter, where it issues our tokens, or the only issuer there is. So an address
  revokes something only where it is what tokens have as ``sub``.
* Of a complex subject ``user`` and ``session`` are read. What else it says narrows it down to
  tokens that we cannot tell from the others, so all of them are meant (SSF 1.0 section 8.1.3.1).
* Any other format says nothing to us.

A transmitter that issues tokens speaks for itself only, any other one for all our issuers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bearer_middleware.revocation.incoming import Rejected
from bearer_middleware.revocation.request import Revocation

#: More names of one subject are a mistake, or worse.
MOST_NAMES = 100
Role = Literal["token_id", "session", "subject"]
#: What is meant, of which issuer, and how it is called there.
Name = tuple[Role, str | None, str]


class _Strange(Exception):
    """It is an issuer's that the transmitter does not speak for, or nobody knows whose."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What of a subject is known to us, which may be nothing."""

    names: tuple[Name, ...]
    is_complex: bool = False
    #: The members of a complex subject that say nothing to us.
    unread: frozenset[str] = frozenset()

    def revocations(self, before: float, *, of_sessions: bool) -> list[Revocation]:
        """What to revoke; ``of_sessions`` says that the event ends sessions, and no more.

        It then ends one session, where that is named beside its user. A simple ``opaque``
        subject of such an event is a session (as in the first example of CAEP 1.0 section 3.1)
        or a user, whichever has that name; of any other event it is a user.
        """
        roles: set[Role] = {role for role, *_ in self.names}
        if not self.is_complex and not of_sessions:
            roles.discard("session")
        elif self.is_complex and of_sessions and "session" in roles:
            roles.discard("subject")
        return [_revocation(name, before) for name in self.names if name[0] in roles]


class Subjects:
    """Reads the subjects of what ``transmitter`` tells an API that trusts ``issuers``."""

    def __init__(self, issuers: Iterable[str | None], transmitter: str) -> None:
        names = frozenset(issuers)
        self._issuers = frozenset({transmitter}) if transmitter in names else names

    def read(self, sub_id: object) -> Subject:
        """The subject of an event. Raises :class:`Rejected` where it is badly spelled."""
        identifier = _identifier(sub_id)
        if identifier["format"] == "complex":
            return self._complex(identifier)
        names = self._known(identifier, "subject")
        if identifier["format"] == "opaque":
            names += self._known(identifier, "session")
        return Subject(tuple(names))

    def _complex(self, members: Mapping[str, Any]) -> Subject:
        names: list[Name] = []
        unread = members.keys() - {"format"}
        user = _identifier(members["user"]) if "user" in members else None
        session = _identifier(members["session"]) if "session" in members else None
        try:
            if user is not None and (known := list(self._names(user, "subject"))):
                names += known
                unread.discard("user")
            if session is not None:
                whose = user.get("iss") if user and user["format"] == "iss_sub" else None
                if known := list(self._names(session, "session", whose)):
                    names += known
                    unread.discard("session")
        except _Strange:  # a part of it is somebody else's, so all is
            names.clear()
        return Subject(tuple(names), is_complex=True, unread=frozenset(unread))

    def _known(self, identifier: Mapping[str, Any], role: Role) -> list[Name]:
        try:
            return list(self._names(identifier, role))
        except _Strange:
            return []

    def _names(
        self, identifier: Mapping[str, Any], role: Role, whose: str | None = None
    ) -> Iterator[Name]:
        """The names of a simple subject, taken as ``role``; none where its format says nothing
        to us. ``whose`` is the issuer of what names none. Raises ``_Strange``.
        """
        match identifier["format"]:
            case "iss_sub":
                yield role, self._issuer(_text(identifier, "iss")), _text(identifier, "sub")
            case "jwt_id":
                yield "token_id", self._issuer(_text(identifier, "iss")), _text(identifier, "jti")
            case "opaque":
                yield role, self._issuer(whose), _text(identifier, "id")
            case "email":
                yield role, self._issuer(whose), _text(identifier, "email")
            case "aliases":
                for alias in _aliases(identifier):
                    yield from self._known(alias, role)

    def _issuer(self, named: str | None) -> str | None:
        if None in self._issuers and (named is None or named not in self._issuers):
            return None  # a server that is only asked, and has no name here
        if named is None and len(self._issuers) == 1:
            (named,) = self._issuers
        if named not in self._issuers:
            raise _Strange
        return named


def _revocation(name: Name, before: float) -> Revocation:
    role, issuer, value = name
    if role == "subject":
        return {"issuer": issuer, "subject": value, "before": before}
    if role == "session":
        return {"issuer": issuer, "session": value}
    return {"issuer": issuer, "token_id": value}


def _identifier(value: object) -> dict[str, Any]:
    if isinstance(value, dict) and isinstance(value.get("format"), str):
        return value
    raise Rejected("a subject without a format")


def _aliases(identifier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """RFC 9493 section 3.2.8: several names of one subject, none of which are aliases again."""
    listed = identifier.get("identifiers")
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_NAMES:
        raise Rejected(f"aliases without a list of 1 to {MOST_NAMES} identifiers")
    aliases = [_identifier(each) for each in listed]
    if any(alias["format"] == "aliases" for alias in aliases):
        raise Rejected("aliases of aliases")
    return aliases


def _text(identifier: Mapping[str, Any], member: str) -> str:
    value = identifier.get(member)
    if isinstance(value, str) and value:
        return value
    raise Rejected(f"a subject without {member}")
