"""What arrived: from an Authorization header to the token in it, and to the parts of a JWT."""

from __future__ import annotations

from bearer_middleware.commands.ledger import Ledger
from bearer_middleware.errors import InvalidRequest, MissingToken, Reason, Refused
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.routing import Trusted
from bearer_middleware.settings import Settings
from bearer_middleware.tokens.bearer import bearer_token
from bearer_middleware.tokens.jws import Header, Jws, parse_jws

# What a request may be refused for by the header of a JWT alone.
_BY_HEADER = {Reason.UNSUPPORTED_ALG: "alg", Reason.UNKNOWN_KID: "key"}


def token_in(value: bytes, settings: Settings, ledger: Ledger) -> bytes | None:
    """The token of a header, also where it is longer than is allowed."""
    try:
        bearer_token([value], settings.max_token_length)
    except MissingToken as refusal:
        if settings.optional:
            ledger.skip(("length", "header"), "another scheme: an anonymous caller")
        else:
            ledger.refused("header", refusal, "a token comes as: Bearer TOKEN")
        return None
    except InvalidRequest as refusal:
        if refusal.reason is Reason.TOO_LONG:
            ledger.refused("length", refusal)
    if "length" not in ledger.named:
        ledger.kept("length", f"at most {settings.max_token_length} bytes")
    return ledger.judge(
        "header",
        lambda: bearer_token([value], len(value)),
        "one header, the scheme Bearer, one token",
        "a token is one word, without line breaks, quotes or commas",
    )


def parts_of(token: bytes, header: Header, trusted: Trusted, ledger: Ledger) -> Jws | None:
    """The parts of a JWT, also of one that its header alone is enough to refuse."""
    try:
        return trusted.parse(token)
    except Refused as refusal:
        name = _BY_HEADER.get(refusal.reason, "kind")
        if name == "kind":  # what was said of the kind held for the header only
            ledger.findings.pop()
        ledger.refused(name, refusal, allowed(*trusted.servers) if name == "alg" else "")
    try:
        return parse_jws(token, header)
    except Refused:
        return None


def allowed(*servers: AuthorizationServer) -> str:
    """The algorithms of these servers."""
    names = (name for server in servers for name in server.settings.algorithms)
    return f"allowed: {', '.join(dict.fromkeys(names))}"
