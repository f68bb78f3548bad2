"""What ``explain`` adds to a rule: times as seen from now, and what would have been expected.

Of the token itself only that gets in here: whether something is said, and when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bearer_middleware.tokens.claims import Claims, Rules

_KEPT = {
    "issuer": "the configured one",
    "exp": "not expired",
    "nbf": "its time has begun",
    "iat": "issued before now",
    "aud": "this API is meant",
    "use": "nothing says that it is an ID token or a refresh token",
    "token_type": "nothing says that it is another type of token",
    "cnf": "not bound to a key",
    "claims": "sub, client_id, jti and scope have the shape they should, none required is missing",
}
_UNITS = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"))
_LONG = 3_650 * 86_400


def kept(name: str, claims: Claims, rules: Rules, now: float) -> str:
    """Why a rule of the table lets these claims in."""
    if name in ("exp", "nbf", "iat") and claims.get(name) is None:
        return "not said, and need not be"
    if name == "issuer" and (claims.get("iss") is None or rules.issuer is None):
        return "not said, and need not be" if rules.answer else "any will do"
    if name == "aud" and rules.audience is None:
        return "any will do, as is configured"
    if name == "aud" and claims.get("aud") is None:
        return "not said, and need not be, as is configured"
    if name == "provider":
        return f"as {rules.preset.title} has it" if rules.preset.title else "nothing more is wanted"
    if name == "status":  # where there is one, what its list says comes last of all
        ignored = "not looked at, as is configured" if rules.status.ignored else ""
        return "not said, and need not be" if claims.get(name) is None else ignored
    said = remark(name, claims, rules, now)
    return f"{_KEPT.get(name, 'satisfied')}{f'; {said}' if said else ''}"


def remark(name: str, claims: Claims, rules: Rules, now: float) -> str:
    """What helps to understand a rule, whether it is kept or broken."""
    more = _REMARKS.get(name)
    return more(claims, rules, now) if more is not None else ""


def relative(seconds: float) -> str:
    """A time as seen from now: ``in 5 min``, ``3 h ago``."""
    distance = abs(seconds)
    if distance >= _LONG:
        text = "over ten years"
    else:
        size, unit = next((u for u in _UNITS if distance >= 2 * u[0]), _UNITS[-1])
        text = f"{distance / size:.0f} {unit}"
    return f"in {text}" if seconds > 0 else f"{text} ago"


def _time(name: str) -> Callable[[Claims, Rules, float], str]:
    def said(claims: Claims, rules: Rules, now: float) -> str:
        value: Any = claims.get(name)
        if type(value) is not int and type(value) is not float:
            return ""
        try:
            when = relative(float(value) - now)
        except OverflowError:
            return "beyond all measure"
        return f"{when} by this machine's clock, the leeway is {rules.leeway:g} s"

    return said


def _issuer(claims: Claims, rules: Rules, now: float) -> str:
    if rules.issuer is None:
        return ""
    named = claims.get("iss")
    text = f"expected is {rules.issuer}"
    if not isinstance(named, str) or named == rules.issuer:
        return text
    alike = named.rstrip("/") == rules.issuer.rstrip("/")
    return f"{text}; only the slash at the end differs" if alike else text


def _audience(claims: Claims, rules: Rules, now: float) -> str:
    if rules.audience is None:
        return ""
    text = f"expected is {' or '.join(sorted(rules.audience))}"
    if rules.answer and claims.get("aud") is None:
        text += "; for servers that send none there is BEARER_INTROSPECTION_AUDIENCE"
    return text


def _binding(claims: Claims, rules: Rules, now: float) -> str:
    if claims.get("cnf") is None:
        return ""
    return "it needs DPoP or mutual TLS, which this API does not serve"


_REMARKS: dict[str, Callable[[Claims, Rules, float], str]] = {
    "issuer": _issuer,
    "exp": _time("exp"),
    "nbf": _time("nbf"),
    "iat": _time("iat"),
    "aud": _audience,
    "cnf": _binding,
}
