"""``explain`` walks the rules a request meets, and names the first that refuses."""

from __future__ import annotations

import io
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import Identity, ResourceServer, Settings
from bearer_middleware.commands.explain import explain
from bearer_middleware.commands.explain import explained as explain_with
from bearer_middleware.testing import Issuer
from bearer_middleware.tokens.claims import RULES

Tell = Callable[..., Any]
NOW = int(time.time())


def segment(members: object) -> str:
    """Base64url of some JSON."""
    return urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


def test_accepted_jwt(issuer: Issuer, explained: Tell) -> None:
    """A good JWT has a line of every rule, and the middleware agrees."""
    told = explained(issuer.jwt(sub="c4n4ry"))
    assert told.status == 0
    named = {"length", "header", "kind", "alg", "typ", "key", "signature", "scope", "middleware"}
    assert named | {name for name, _ in RULES} == told.of("ok").keys()
    assert told.lines[-1] == "accepted: kind=jwt, subject present, scopes: 1"
    assert issuer.url in told.of("ok")["issuer"]
    assert "in 60 min" in told.of("ok")["exp"]


def test_accepted_opaque_token(issuer: Issuer, explained: Tell) -> None:
    """A good opaque token is explained by the answer about it."""
    told = explained(issuer.opaque(sub="c4n4ry", nbf=int(time.time()) - 500))
    assert told.status == 0
    assert {"introspection", "active", *(name for name, _ in RULES)} <= told.of("ok").keys()
    assert {"alg", "typ", "key", "signature"} == told.of("skip").keys()
    assert "8 min ago" in told.of("ok")["nbf"]
    assert told.lines[-1].startswith("accepted: kind=opaque")


def test_client_without_subject(issuer: Issuer, explained: Tell) -> None:
    """The last line says that it is a client, and whether there is a subject."""
    token = issuer.opaque(sub=None, client_id=None, scope=None)
    assert explained(token).lines[-1].endswith("subject absent, scopes: 0")
    assert "a client for itself" in explained(issuer.jwt(sub=None)).lines[-1]


@pytest.mark.parametrize(
    ("claims", "refused", "said"),
    [
        ({"exp": NOW - 7200}, "expired (exp)", "2 h ago"),
        ({"exp": None}, "missing_claim (exp)", "no exp"),
        ({"exp": "soon"}, "malformed_claim (exp)", "not a time"),
        ({"exp": 10**400}, "malformed_claim (exp)", "beyond all measure"),
        ({"nbf": NOW + 36_900}, "not_yet_valid (nbf)", "in 10 h"),
        ({"iat": NOW + 36_900}, "not_yet_valid (iat)", "in 10 h"),
        ({"aud": "c4n4ry"}, "wrong_audience (aud)", "expected is api"),
        ({"aud": None}, "wrong_audience (aud)", "no aud"),
        ({"aud": 7}, "malformed_claim (aud)", "aud is neither"),
        ({"token_use": "id"}, "not_access_token (use)", "token_use"),
        ({"nonce": "c4n4ry", "at_hash": "x"}, "not_access_token (use)", "ID token"),
        ({"cnf": {"jkt": "c4n4ry"}}, "bound_token (cnf)", "DPoP"),
        ({"sub": 7}, "malformed_claim (claims)", "sub is not a string"),
    ],
)
def test_refused_by_a_claim(
    issuer: Issuer, explained: Tell, claims: dict[str, Any], refused: str, said: str
) -> None:
    """Every rule of the table is named where it refuses, and key and signature are still told."""
    told = explained(issuer.jwt(**claims))
    assert told.status == 1
    assert [said in text for text in told.of("fail").values()] == [True]
    assert {"key", "signature"} <= told.of("ok").keys()
    assert told.lines[-1] == f"refused: {refused}"


def test_the_first_rule_is_named(issuer: Issuer, explained: Tell) -> None:
    """All rules that refuse are shown; the last line names the first of them."""
    told = explained(issuer.jwt(exp=NOW - 7200, aud="other"), required_scopes="write")
    assert list(told.of("fail")) == ["exp", "aud", "scope"]
    assert told.lines[-1] == "refused: expired (exp)"


@pytest.mark.parametrize("slash", [True, False])
def test_stranger(issuer: Issuer, explained: Tell, slash: bool) -> None:
    """A token of another issuer causes no request, and meets the other rules all the same."""
    told = explained(issuer.jwt(iss=f"{issuer.url}/" if slash else "https://c4n4ry.example"))
    assert told.status == 1
    assert issuer.url in told.of("fail")["issuer"]
    assert told.lines[-1] == "refused: unknown_issuer (issuer)"
    assert "not expired" in told.of("ok")["exp"]
    assert "nobody is asked" in told.of("skip")["key"]
    assert not issuer.log


def test_stranger_to_several(issuer: Issuer, tmp_path: Path) -> None:
    """Where there are several issuers, a stranger's token meets nobody's rules."""
    file = tmp_path / "bearer.toml"
    tables = [f'[[issuers]]\nissuer = "https://{name}.example"\naudience = "a"' for name in "ab"]
    file.write_text("\n".join(tables))
    out = io.StringIO()
    header = f"Bearer {issuer.jwt()}".encode()
    assert explain({}, header, out, config_file=str(file)) == 1
    assert "skip  exp: each issuer has rules of its own" in out.getvalue()
    assert out.getvalue().endswith("refused: unknown_issuer (issuer)\n")


def test_answer_for_another_issuer(issuer: Issuer, tmp_path: Path) -> None:
    """A server without a name says nothing of tokens of one that has its own keys."""
    file = tmp_path / "bearer.toml"
    file.write_text(f"""
        audience = "{issuer.audience}"
        allow_insecure_http = true
        [[issuers]]
        issuer = "{issuer.url}"
        [[issuers]]
        introspection_url = "{issuer.url}/introspect"
        client_id = "{issuer.client_id}"
        client_secret = "{issuer.client_secret}"
    """)
    out = io.StringIO()
    header = f"Bearer {issuer.opaque()}".encode()
    assert explain({}, header, out, config_file=str(file)) == 1
    assert "fail  issuer: the answer speaks for another server\n" in out.getvalue()
    assert out.getvalue().endswith("refused: unknown_issuer (issuer)\n")


def test_algorithm(issuer: Issuer, explained: Tell) -> None:
    """An algorithm that is not allowed is told with those that are; no key is looked for."""
    told = explained(issuer.jwt(algorithm="HS256", key="c4n4ry" * 8))
    assert told.lines[-1] == "refused: unsupported_alg (alg)"
    assert "RS256" in told.of("fail")["alg"]
    assert {"key", "signature"} <= told.of("skip").keys()
    assert not issuer.log


def test_algorithm_and_parts(issuer: Issuer, explained: Tell) -> None:
    """A JWT that is bad in its header and in its parts is refused for the header."""
    told = explained(f"{segment({'alg': 'none'})}.AAAA.AAAA")
    assert told.lines[-1] == "refused: unsupported_alg (alg)"
    assert told.of("skip")["exp"] == "its parts cannot be read"


def test_type(issuer: Issuer, explained: Tell) -> None:
    """A type of another kind of token is refused, and what is expected is said."""
    told = explained(issuer.jwt(headers={"typ": "c4n4ry"}))
    assert told.lines[-1] == "refused: wrong_type (typ)"
    assert '"at+jwt", "jwt" or none at all' in told.of("fail")["typ"]
    assert "need not be" in explained(issuer.jwt(headers={"typ": None})).of("ok")["typ"]


def test_profile(issuer: Issuer, explained: Tell) -> None:
    """The rules are those of the configured profile."""
    told = explained(issuer.jwt(jti=None, headers={"typ": "JWT"}), profile="rfc9068")
    assert list(told.of("fail")) == ["typ", "claims"]
    assert "none at all" not in told.of("fail")["typ"]


def test_unknown_key(issuer: Issuer, explained: Tell) -> None:
    """A key that is not in the set, and none to verify with."""
    told = explained(issuer.jwt(headers={"kid": "c4n4ry"}))
    assert told.lines[-1] == "refused: unknown_kid (key)"
    assert "no key" in told.of("skip")["signature"]


def test_key_of_another_algorithm(issuer: Issuer, explained: Tell) -> None:
    """The kid is known, its algorithm another one."""
    token = issuer.jwt(algorithm="ES256", headers={"kid": issuer.kid})
    assert explained(token).lines[-1] == "refused: unsupported_alg (key)"


def test_signature(issuer: Issuer, explained: Tell) -> None:
    """A stranger's signature under a kid of ours."""
    with Issuer().serve() as stranger:
        token = stranger.jwt(iss=issuer.url, headers={"kid": issuer.kid})
    assert explained(token).lines[-1] == "refused: bad_signature (signature)"


def test_shared_secret(issuer: Issuer, explained: Tell) -> None:
    """A shared secret is a key, too."""
    settings = {"hmac_secret": "c4n4ry" * 8, "client_id": None, "client_secret": None}
    good = issuer.jwt(algorithm="HS256", key=settings["hmac_secret"])
    assert explained(good, **settings).status == 0
    bad = issuer.jwt(algorithm="HS256", key="guessed" * 8)
    assert explained(bad, **settings).lines[-1] == "refused: bad_signature (signature)"


def test_scopes(issuer: Issuer, explained: Tell) -> None:
    """Missing scopes are told with all that are required."""
    told = explained(issuer.jwt(scope="read c4n4ry"), required_scopes="read write")
    assert "required: read write" in told.of("fail")["scope"]
    assert told.lines[-1] == "refused: insufficient_scope (scope)"


def test_inactive(issuer: Issuer, explained: Tell) -> None:
    """An answer came, and says that the token is not active."""
    token = issuer.opaque()
    issuer.revoke(token)
    told = explained(token, required_scopes="read")
    assert "introspection" in told.of("ok")
    assert {"exp", "scope"} <= told.of("skip").keys()
    assert told.lines[-1] == "refused: inactive (active)"


@pytest.mark.parametrize(
    ("members", "rule", "reason"),
    [
        ({"exp": 1}, "exp", "expired"),
        ({"aud": None}, "aud", "wrong_audience"),
        ({"iss": "https://c4n4ry.example"}, "issuer", "unknown_issuer"),
        ({"token_type": "c4n4ry"}, "token_type", "not_access_token"),
        ({"cnf": {"x5t#S256": "c4n4ry"}}, "cnf", "bound_token"),
    ],
)
def test_refused_by_a_claim_of_the_answer(
    issuer: Issuer, explained: Tell, members: dict[str, Any], rule: str, reason: str
) -> None:
    """The same table holds for answers; a missing aud names the setting about it."""
    told = explained(issuer.opaque(**members))
    assert told.lines[-1] == f"refused: {reason} ({rule})"
    if rule == "aud":
        assert "BEARER_INTROSPECTION_AUDIENCE" in told.of("fail")["aud"]


def test_answer_that_says_little(issuer: Issuer, explained: Tell) -> None:
    """What an answer leaves out is told as left out, not as kept."""
    token = issuer.opaque(iss=None, exp=None, iat=None, aud=None)
    told = explained(token, introspection_audience="if-present")
    assert told.status == 0
    for name in ("issuer", "exp", "nbf", "iat", "aud"):
        assert told.of("ok")[name].startswith("not said, and need not be")


def test_any_audience(issuer: Issuer, explained: Tell) -> None:
    """Where any audience will do, that is what is said."""
    told = explained(issuer.jwt(aud="x"), audience=None, allow_any_audience="true")
    assert told.of("ok")["aud"] == "any will do, as is configured"


def test_opaque_and_nobody_to_ask(issuer: Issuer, explained: Tell) -> None:
    """An opaque token where only JWTs are validated."""
    told = explained(issuer.opaque(), client_id=None, client_secret=None)
    assert told.lines[-1] == "refused: unsupported_token (introspection)"


def test_introspection_only(issuer: Issuer, explained: Tell) -> None:
    """With introspection alone a JWT is left to the server."""
    told = explained(issuer.jwt(), issuer=None, introspection_url=f"{issuer.url}/introspect")
    assert told.status == 0
    assert "left to introspection" in told.of("skip")["signature"]
    assert {"answer exp", "answer aud"} <= told.of("ok").keys()


def test_both(issuer: Issuer, explained: Tell) -> None:
    """A JWT that is validated and asked about has the lines of both ways."""
    token = issuer.jwt()
    told = explained(token, jwt_validation="both", required_scopes="read")
    assert told.status == 0
    assert {"signature", "exp", "active", "answer exp", "sub"} <= told.of("ok").keys()
    issuer.revoke(token)
    assert explained(token, jwt_validation="both").lines[-1] == "refused: inactive (active)"


def test_both_is_not_asked_in_vain(issuer: Issuer, explained: Tell) -> None:
    """A JWT that is refused here is not shown to anybody."""
    told = explained(issuer.jwt(aud="other"), jwt_validation="both")
    assert "nobody is asked" in told.of("skip")["introspection"]
    assert issuer.requests["introspection"] == 0


def test_another_subject(issuer: Issuer, explained: Tell) -> None:
    """An answer about somebody else refuses the JWT."""
    document = {"active": True, "sub": "c4n4ry", "aud": issuer.audience}
    issuer.fail("introspection", body=json.dumps(document).encode())
    told = explained(issuer.jwt(), jwt_validation="both")
    assert told.lines[-1] == "refused: subject_mismatch (sub)"


@pytest.mark.parametrize("mode", ["local", "introspect", "both"])
@pytest.mark.parametrize("exp", [1, 9_999_999_999])
def test_signature_that_is_none(issuer: Issuer, explained: Tell, mode: str, exp: int) -> None:
    """What is no base64url is refused before anybody is asked, whoever was to look at it."""
    told = explained(issuer.jwt(exp=exp) + "=", jwt_validation=mode)
    assert told.lines[-1] == "refused: malformed_token (signature)"
    assert "introspection" in told.of("skip")
    assert issuer.requests.total() == 0


@pytest.mark.parametrize("mode", ["introspect", "both"])
def test_scopes_of_the_identity(issuer: Issuer, explained: Tell, mode: str) -> None:
    """The scopes are the answer's where the answer is the identity, else the JWT's."""
    document = {"active": True, "scope": "write", "aud": issuer.audience}
    issuer.fail("introspection", body=json.dumps(document).encode())
    told = explained(issuer.jwt(), jwt_validation=mode, required_scopes="write")
    assert told.status == (0 if mode == "introspect" else 1)


@pytest.mark.parametrize(
    ("endpoint", "rule", "reason"),
    [
        ("jwks", "key", "jwks_unavailable"),
        ("metadata", "key", "jwks_unavailable"),
        ("introspection", "introspection", "introspection_unavailable"),
    ],
)
def test_cannot_know(
    issuer: Issuer, explained: Tell, endpoint: str, rule: str, reason: str
) -> None:
    """A server that does not answer says nothing about the token, and that is what is told."""
    issuer.fail(endpoint, status=503)
    told = explained(issuer.opaque() if rule == "introspection" else issuer.jwt())
    assert told.status == 1
    assert told.of("fail")[rule].startswith("cannot know: ")
    assert told.lines[-1] == f"cannot know: {reason} ({rule})"


def test_odd_metadata(issuer: Issuer, explained: Tell) -> None:
    """An endpoint that is no URL says nothing about the token."""
    document = {"issuer": issuer.url, "jwks_uri": "https://[", "introspection_endpoint": 7}
    issuer.fail("metadata", body=json.dumps(document).encode())
    for token in (issuer.jwt(), issuer.opaque()):
        assert explained(token).lines[-1].startswith("cannot know: ")


def test_wrong_credentials(issuer: Issuer, explained: Tell) -> None:
    """That we are refused ourselves is not the token's fault."""
    told = explained(issuer.opaque(), client_secret="c4n4ry-wrong")
    assert told.lines[-1] == "cannot know: misconfigured (introspection)"


def test_too_long(issuer: Issuer, explained: Tell) -> None:
    """A token that is too long is refused for that, and looked at all the same, but not sent."""
    told = explained("x" * 9000)
    assert told.lines[-1] == "refused: too_long (length)"
    assert told.of("ok")["kind"].startswith("opaque")
    assert "nobody is asked" in told.of("skip")["introspection"]
    assert not issuer.log


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"Bearer", "malformed_header"),
        (b"Bearer c4n4ry c4n4ry", "malformed_header"),
        (b"Bearer c4n4ry\nc4n4ry", "malformed_header"),
        (b'Bearer "c4n4ry"', "malformed_header"),
        (b"Bearer a, Bearer c4n4ry", "multiple_credentials"),
        (b"Basic c4n4ry", "missing"),
        ("Bearer cän4ry".encode(), "malformed_header"),
    ],
)
def test_no_token(issuer: Issuer, explained: Tell, header: bytes, reason: str) -> None:
    """What is no bearer token is refused by the grammar, and nothing else is asked."""
    told = explained(header)
    assert told.lines[-1] == f"refused: {reason} (header)"
    assert {"kind", "key", "signature", "issuer", "aud", "exp"} <= told.of("skip").keys()
    assert not issuer.log


def test_anonymous(explained: Tell) -> None:
    """Another scheme is anonymous where that is allowed."""
    told = explained(b"Basic c4n4ry", optional="true")
    assert told.status == 0
    assert told.lines[-1] == "accepted: anonymous"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (f"{segment({'alg': 'RS256', 'enc': 'c4n4ry'})}.a.b.c.d", "encrypted_token"),
        (f"{segment({'alg': 'RS256', 'crit': ['c4n4ry']})}.e30.AAAA", "unsupported_header"),
        (f"{segment({'alg': 'RS256'})}.c4n4ry.AAAA", "malformed_token"),
        (f"{segment({'alg': 'RS256'})}=.e30.AAAA", "malformed_header"),
    ],
)
def test_odd_jwts(explained: Tell, token: str, reason: str) -> None:
    """What is meant as a JWT, and cannot be looked at, is refused for its kind."""
    told = explained(token)
    assert told.lines[-1].startswith(f"refused: {reason} (")
    assert not told.of("ok").get("signature")


def test_wrong_settings(explained: Tell, issuer: Issuer) -> None:
    """With settings that are wrong nothing can be known of a token."""
    told = explained(issuer.jwt(), audience=None)
    assert told.status == 1
    assert "BEARER_AUDIENCE" in told.of("fail")
    assert told.lines[-1] == "cannot know: the settings are wrong"


def test_verdicts_that_differ(issuer: Issuer) -> None:
    """Should the rules and the middleware ever disagree, that is said, and nothing accepted."""
    settings = Settings(**issuer.settings())

    def let_all_in(token: str) -> Identity:
        return Identity(subject="somebody")

    fooled = ResourceServer(settings, validators=[let_all_in])
    header = f"Bearer {issuer.jwt(exp=1)}".encode()
    told = explain_with(ResourceServer(settings), fooled, header)
    assert not told.accepted
    assert str(told.findings[-1]) == (
        "fail  middleware: by the rules refused: expired, by the middleware itself accepted"
    )
    assert "differ" in told.verdict


def test_rule_that_breaks(issuer: Issuer, monkeypatch: pytest.MonkeyPatch, explained: Tell) -> None:
    """A rule that raises what it should not counts as it does for a request: cannot know."""
    from bearer_middleware.commands import walk
    from bearer_middleware.tokens import claims

    def broken(*_: object) -> None:
        raise ZeroDivisionError("c4n4ry")

    table = (*RULES, ("extra", broken))
    for module in (claims, walk):
        monkeypatch.setattr(module, "RULES", table)
    told = explained(issuer.jwt(nbf=0))  # not so usual that no rule is asked
    assert told.of("fail")["extra"] == "cannot know: ZeroDivisionError"
    assert told.lines[-1] == "cannot know: internal (extra)"


def test_implied_scopes(issuer: Issuer, explained: Tell) -> None:
    """ERR-11: what a scope grants counts here, too."""
    settings = {"required_scopes": "read", "scope_implications": '{"admin": ["read"]}'}
    assert explained(issuer.jwt(scope="admin"), **settings).status == 0
    assert explained(issuer.jwt(scope="other"), **settings).status == 1


@pytest.mark.parametrize("claims", [{}, {"exp": 1}, {"aud": "other"}])
def test_silent_feed(
    issuer: Issuer, explained: Tell, tmp_path: Path, claims: dict[str, object]
) -> None:
    """Whether there is anything to know of revocations is asked before the token's own rules."""
    feed = {"revocation_url": str(tmp_path / "none.jsonl"), "on_stale_feed": "refuse"}
    told = explained(issuer.jwt(**claims), **feed, http_timeout="0.2")
    assert told.status == 1
    assert told.of("fail")["revocation"].startswith("cannot know: ")
    assert "middleware" in told.of("ok")
    assert told.lines[-1] == "cannot know: revocation_stale (revocation)"


def test_silent_feed_that_is_made_up_for(issuer: Issuer, explained: Tell, tmp_path: Path) -> None:
    """Where JWTs are asked about for as long as the feed is silent, so they are here."""
    feed = {"revocation_url": str(tmp_path / "none.jsonl"), "on_stale_feed": "introspect"}
    feed["http_timeout"] = "0.5"
    token = issuer.jwt()
    told = explained(token, **feed)
    assert told.of("ok")["active"] == "the server says so"
    assert told.lines[-1].startswith("accepted: kind=jwt")
    issuer.revoke(token)
    told = explained(token, **feed)
    assert "middleware" in told.of("ok")
    assert told.lines[-1] == "refused: inactive (active)"
