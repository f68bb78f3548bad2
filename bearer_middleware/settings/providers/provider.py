"""What there is to say of a product that authorization servers are made with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bearer_middleware.settings.parsing import Parser, Unreadable, text
from bearer_middleware.tokens.preset import Asked, Preset

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}(?::[0-9]{{1,5}})?")
_SEGMENT = re.compile(r"[A-Za-z0-9._~%-]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One authorization server of a product, and what the user said of it."""

    issuer: str
    #: Its host, where the issuer has it from the user.
    domain: str | None = None
    #: Realm, project, pool, directory ...: see ``Provider.tenant_is``.
    tenant: str | None = None
    audience: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    opaque: bool = False
    #: Was the issuer made of domain and tenant, and not said itself?
    composed: bool = True

    @property
    def base(self) -> str:
        """The issuer as the beginning of other addresses."""
        return self.issuer.removesuffix("/")


#: The mistakes of one server: keyword and words.
Mistakes = list[tuple[str, str]]


def _no_mistakes(chosen: Chosen, said: Mapping[str, Any]) -> Mistakes:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A product: how its issuers are called, and what follows from that.

    ``domain`` and ``tenant`` read the two settings; ``None`` where they have no use. Without
    ``issuers`` that can be made of them, the user has to say the issuer.
    """

    title: str
    domain: Parser[str] | None = None
    domain_is: str = ""
    default_domain: str | None = None
    tenant: Parser[str] | None = None
    tenant_is: str = ""
    default_tenant: str | None = None
    tenant_is_optional: bool = False
    #: All names of a server by domain and tenant; the first is the one it is known by.
    issuers: Callable[[str, str], tuple[str, ...]]
    #: Of an issuer that the user says; its groups ``domain`` and ``tenant`` are those.
    issuer: re.Pattern[str]
    issuer_is: str
    keys: Callable[[Chosen], str]
    introspection: Callable[[Chosen], str] | None = None
    asked: Asked = "introspection"
    #: What asks instead of introspection, where the user allows it.
    opaque: Asked | None = None
    #: What signs, where that is known; ``pinned``: and nothing else ever does.
    algorithms: tuple[str, ...] | None = None
    pinned: bool = False
    #: What is the audience where the user says nothing.
    audience: Callable[[Chosen], tuple[str, ...]] | None = None
    #: Is it never another one? Then an inherited one is not meant.
    audience_fixed: bool = False
    #: Does nothing but the audience say that a token is for us?
    audience_needed: bool = False
    preset: Callable[[Chosen], Preset]
    mistakes: Callable[[Chosen, Mapping[str, Any]], Mistakes] = _no_mistakes
    #: What else is set where the user says nothing.
    defaults: Mapping[str, Any] = field(default_factory=dict)


def host(value: object) -> str:
    """A host, perhaps with a port. Raises ``Unreadable``."""
    written = text(value).lower()
    if not _HOST.fullmatch(written):
        raise Unreadable(
            "must be a host such as auth.example.com, without https://, path or slash at the end"
        )
    return written


def host_and_path(value: object) -> str:
    """A host, and below it perhaps a path. Raises ``Unreadable``."""
    written = text(value)
    first, *rest = written.split("/")
    good = all(_SEGMENT.fullmatch(part) and part.strip(".") for part in rest)
    if not _HOST.fullmatch(first.lower()) or not good:
        raise Unreadable(
            "must be a host, perhaps with a path such as auth.example.com/auth, without https:// "
            "or a slash at the end"
        )
    return "/".join((first.lower(), *rest))


def segment(value: object) -> str:
    """One segment of a path. Raises ``Unreadable``."""
    written = text(value)
    if not _SEGMENT.fullmatch(written) or not written.strip("."):
        raise Unreadable("must be one segment of a path, without a slash")
    return written


def role_paths(chosen: Chosen, *usual: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The claims that the user names, or those where this product has roles."""
    return tuple((name,) for name in chosen.roles) or usual
