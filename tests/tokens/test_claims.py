"""What the claims of a JWT, and of an introspection answer, must say."""

import json
from typing import Any

import pytest

from bearer_middleware import Identity
from bearer_middleware.errors import InvalidToken, Reason, Unavailable
from bearer_middleware.testing import Issuer
from bearer_middleware.tokens.claims import (
    RULES,
    answer_rules,
    jwt_rules,
    validate_claims,
    validate_type,
)
from bearer_middleware.tokens.facts import usual_facts
from tests.tokens.forging import (
    ANSWER,
    AUDIENCE,
    CLAIMS,
    ISSUER,
    NOW,
    Gate,
    SecretGate,
    claims,
    forge,
    gate_of,
    header,
)

COMPATIBLE = jwt_rules(ISSUER, frozenset({AUDIENCE}), 30.0, "compatible")
STRICT = jwt_rules(ISSUER, frozenset({AUDIENCE}), 30.0, "rfc9068")
ANSWERED = answer_rules(ISSUER, frozenset({AUDIENCE}), 30.0, audience_required=True)


def why(said: dict[str, Any], rules: Any = COMPATIBLE) -> Reason | None:
    """Why these claims are refused, ``None`` where they are good."""
    try:
        validate_claims(said, rules, NOW)
    except InvalidToken as refusal:
        return refusal.reason
    return None


# -- typ ----------------------------------------------------------------------------------

ACCESS = [
    "at+jwt",
    "at+JWT",
    "AT+JWT",
    "application/at+jwt",
    "application/AT+jwt",
    "Application/at+jwt",
]
PLAIN = ["JWT", "jwt", "application/jwt", ...]
OTHER = [
    *(
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "token-introspection+jwt",
        "statuslist+jwt",
        "vc+jwt",
    ),
    *(
        "application/at+jwt;x=1",
        "at+jwt; v=2",
        "at+jwt ",
        " at+jwt",
        "at-jwt",
        "at+jwt\0",
        "",
        "JWS",
    ),
    *("application/application/at+jwt", "text/at+jwt", "application/", "JOSE", "refresh+jwt", "id"),
    *(["at+jwt"], {"at+jwt": 1}, None, 7, True),
]


@pytest.mark.parametrize("typ", ACCESS)
@pytest.mark.parametrize("profile", ["compatible", "rfc9068"])
def test_typ_of_an_access_token(typ: str, profile: str) -> None:
    """CLM-1, CLM-2: in every case, with and without ``application/``."""
    assert SecretGate(profile=profile).admit(forge(header(typ=typ)))


@pytest.mark.parametrize("typ", PLAIN)
def test_typ_of_any_jwt_is_for_compatible_servers(typ: Any) -> None:
    """CLM-1: RFC 9068 wants more than ``JWT`` or nothing."""
    token = forge(header(typ=typ))
    assert SecretGate().admit(token)
    assert SecretGate(profile="rfc9068").reject(token) is Reason.WRONG_TYPE


@pytest.mark.parametrize("typ", OTHER)
@pytest.mark.parametrize("profile", ["compatible", "rfc9068"])
def test_typ_of_something_else(typ: Any, profile: str) -> None:
    """CLM-1, CLM-2, CLM-14: every other kind of JWT, and what only looks like ``at+jwt``."""
    assert SecretGate(profile=profile).reject(forge(header(typ=typ))) is Reason.WRONG_TYPE


def test_a_typ_that_is_no_header_value_is_refused() -> None:
    """CLM-1: the rule itself, without a header in front of it."""
    for typ in ("dpop+jwt", "", "application/at+jwt"):
        with pytest.raises(InvalidToken):
            validate_type(typ, COMPATIBLE)
    validate_type(None, COMPATIBLE)
    with pytest.raises(InvalidToken):
        validate_type(None, STRICT)


# -- issuer and audience ------------------------------------------------------------------

NEARLY = [
    *(ISSUER + "/", ISSUER.upper(), "https://AS.example", ISSUER[:-1], ISSUER + ".evil", "", " "),
    *(ISSUER + " ", ISSUER + "\0", ISSUER + "#", ISSUER + "?", "HTTPS://as.example", "as.example"),
    *("https://as.example:443", "https://аs.example", "https://as.examp\u200ble", "https://as"),
    *([ISSUER], [], {}, {"iss": ISSUER}, None, 7, True),
]


@pytest.mark.parametrize("issuer", [*NEARLY, ...])
def test_iss_is_exactly_the_configured_issuer(gate: Gate, issuer: Any) -> None:
    """CLM-3: no normalisation, no prefix, no list; a stranger is refused without a question."""
    assert gate.reject(forge(payload=claims(iss=issuer))) is Reason.UNKNOWN_ISSUER
    assert why(claims(iss=issuer)) in {Reason.UNKNOWN_ISSUER, Reason.MALFORMED_CLAIM}


def test_a_strangers_jwt_asks_nobody(issuer: Issuer, asking: Gate) -> None:
    """CLM-3: neither metadata nor keys are fetched for it."""
    assert asking.reject(issuer.jwt(iss="https://evil.example")) is Reason.UNKNOWN_ISSUER
    assert asking.reject(issuer.jwt(iss=None)) is Reason.UNKNOWN_ISSUER
    assert not issuer.requests


NOT_OURS = [
    *(AUDIENCE + "/", AUDIENCE.upper(), AUDIENCE[:-1], AUDIENCE + "2", "", " " + AUDIENCE, "*"),
    *(f"{AUDIENCE} others", f"{AUDIENCE},others", AUDIENCE + "\0", "order\u0455"),
    *([], [""], ["others"], [AUDIENCE.upper()], ["order", "s"]),
]
NO_AUDIENCE = [{}, {AUDIENCE: 1}, [[AUDIENCE]], [AUDIENCE, 7], [None], [{"aud": AUDIENCE}], 7, True]


@pytest.mark.parametrize("audience", [*NOT_OURS, ..., None])
def test_aud_names_this_api(gate: Gate, audience: Any) -> None:
    """CLM-5: whole values, by case; missing, null and empty name nobody."""
    assert gate.reject(forge(payload=claims(aud=audience))) is Reason.WRONG_AUDIENCE
    assert why({**claims(aud=audience), "active": True}, ANSWERED) is Reason.WRONG_AUDIENCE


@pytest.mark.parametrize("audience", NO_AUDIENCE)
def test_aud_is_a_string_or_a_list_of_strings(gate: Gate, audience: Any) -> None:
    """CLM-5: another shape is refused, also where any audience will do."""
    token = forge(payload=claims(aud=audience))
    assert gate.reject(token) is Reason.MALFORMED_CLAIM
    anybody = SecretGate(audience=None, allow_any_audience=True)
    assert anybody.reject(token) is Reason.MALFORMED_CLAIM


@pytest.mark.parametrize(
    "audience",
    [AUDIENCE, [AUDIENCE], ["others", AUDIENCE], [AUDIENCE] * 50, "second", ["", "second"]],
)
def test_one_of_our_names_is_enough(audience: Any) -> None:
    """CLM-5: an API may have several names, a token several audiences."""
    identity = SecretGate(audience=[AUDIENCE, "second"]).admit(forge(payload=claims(aud=audience)))
    assert identity.audience == ((audience,) if isinstance(audience, str) else tuple(audience))


def test_any_audience_has_to_be_said() -> None:
    """CLM-5: and then a token without one is good, too."""
    anybody = SecretGate(audience=None, allow_any_audience=True)
    assert anybody.admit(forge(payload=claims(aud=...))).audience == ()
    assert anybody.admit(forge(payload=claims(aud="others"))).audience == ("others",)


# -- times --------------------------------------------------------------------------------

NO_TIME = [
    *("9999999999", "1700000600", "", "soon", "٩٩٩٩٩٩٩٩٩٩", "1e99", "Infinity"),
    *(True, False, [NOW], [], {}, {"value": NOW}, 10**400, -(10**400), 10**309),
]


@pytest.mark.parametrize("value", NO_TIME, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_a_time_is_a_json_number(gate: Gate, name: str, value: Any) -> None:
    """CLM-6, CLM-7, CLM-9, JWS-27: no text, no boolean, and no number that is no time."""
    said = claims(**{name: value})
    assert gate.reject(forge(payload=said)) is Reason.MALFORMED_CLAIM
    assert why(said) is why(said, ANSWERED) is Reason.MALFORMED_CLAIM


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "00", "0x7fffffff"]
)
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_a_time_is_finite(gate: Gate, name: str, text: str) -> None:
    """CLM-6: JSON that is none, and numbers beyond every float."""
    said = json.dumps(claims(**{name: ...}))[:-1] + f', "{name}": {text}}}'
    assert gate.reject(forge(payload=said.encode())) in {
        Reason.MALFORMED_TOKEN,
        Reason.MALFORMED_CLAIM,
    }


@pytest.mark.parametrize(
    ("expires", "good"),
    [
        *((NOW + 1, True), (NOW, True), (NOW - 29, True), (NOW - 29.999, True), (NOW + 0.5, True)),
        *((NOW - 30, False), (NOW - 31, False), (NOW - 30.0, False), (0, False), (-1, False)),
        *((-0.0, False), (1e308, True), (NOW * 1000, True), (-1e308, False), (2**63, True)),
    ],
)
def test_exp_ends_a_token(gate: Gate, expires: float, good: bool) -> None:
    """CLM-6: on exp plus leeway and after, no token is accepted; fractions count."""
    token = forge(payload=claims(exp=expires))
    if good:
        assert gate.admit(token).expires_at == expires
    else:
        assert gate.reject(token) is Reason.EXPIRED
    assert (why(claims(exp=expires), ANSWERED) is None) is good


def test_without_leeway_exp_is_the_end() -> None:
    """CLM-6: now = exp is too late."""
    gate = SecretGate(leeway=0)
    assert gate.reject(forge(payload=claims(exp=NOW))) is Reason.EXPIRED
    assert gate.admit(forge(payload=claims(exp=NOW + 1)))


@pytest.mark.parametrize("profile", ["compatible", "rfc9068"])
@pytest.mark.parametrize("value", [None, ...])
def test_exp_is_required(profile: str, value: Any) -> None:
    """CLM-6: an eternal JWT is refused in every profile."""
    reason = SecretGate(profile=profile).reject(forge(payload=claims(exp=value)))
    assert reason in {Reason.MISSING_CLAIM, Reason.MALFORMED_CLAIM}


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize(
    ("offset", "good"),
    [(-600, True), (0, True), (30, True), (30.5, False), (31, False), (10**9, False)],
)
def test_tokens_of_the_future_are_refused(gate: Gate, name: str, offset: float, good: bool) -> None:
    """CLM-7, CLM-9: nbf and iat are honoured with the same leeway as exp."""
    token = forge(payload=claims(**{name: NOW + offset}))
    if good:
        gate.admit(token)
    else:
        assert gate.reject(token) is Reason.NOT_YET_VALID


def test_times_may_be_absent_but_for_exp(gate: Gate) -> None:
    """CLM-7, CLM-9: compatible servers write neither."""
    assert gate.admit(forge(payload=claims(iat=..., nbf=...))).issued_at is None


# -- required claims ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"])
@pytest.mark.parametrize("value", [..., None, ""])
def test_rfc_9068_requires_seven_claims(name: str, value: Any) -> None:
    """CLM-8: each of them, with something in it."""
    strict = SecretGate(profile="rfc9068")
    assert strict.admit(forge())
    strict.reject(forge(payload=claims(**{name: value})))
    assert why(claims(**{name: value}), STRICT) is not None


@pytest.mark.parametrize("name", ["sub", "client_id", "jti"])
@pytest.mark.parametrize("value", [7, True, 0, [], ["alice"], {}, {"sub": "alice"}])
def test_names_are_strings(gate: Gate, name: str, value: Any) -> None:
    """CLM-8: a number or a list is nobody."""
    assert gate.reject(forge(payload=claims(**{name: value}))) is Reason.MALFORMED_CLAIM
    assert why({**ANSWER, name: value}, ANSWERED) is Reason.MALFORMED_CLAIM


@pytest.mark.parametrize(
    "more",
    [
        {"https://example.com/role": ["x"], "": None, "__proto__": {}, "__class__": 1},
        {"address": {"street": "x"}, "auth_time": 1, "acr": "0", "amr": ["pwd"], "sid": "s"},
        {"cnf": None, "nonce": "n"},
        {"token_use": "access", "typ": "Bearer", "ver": "2.0", "events_": {}},
    ],
)
def test_unknown_claims_are_ignored(gate: Gate, more: dict[str, Any]) -> None:
    """CLM-13: they are there for whoever looks, and decide nothing."""
    identity = gate.admit(forge(payload=claims(**more)))
    assert {name: identity.claims[name] for name in more} == more


# -- client or user -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "subject", "is_client"),
    [
        ({}, "alice", False),
        ({"sub": "shop"}, "shop", True),
        ({"sub": ...}, "shop", True),
        ({"sub": ""}, "shop", True),
        ({"sub": None}, "shop", True),
        ({"sub": ..., "client_id": ..., "azp": "shop"}, "shop", True),
        ({"sub": "alice", "client_id": ..., "azp": "alice"}, "alice", True),
        ({"sub": ..., "client_id": ..., "username": "bob"}, "bob", False),
        ({"sub": ..., "username": "bob"}, "shop", False),
        ({"sub": ..., "client_id": ...}, None, False),
        ({"sub": "alice", "client_id": ...}, "alice", False),
    ],
)
def test_a_client_is_told_from_a_user(
    gate: Gate, said: dict[str, Any], subject: str | None, is_client: bool
) -> None:
    """CLM-10: where ``sub`` is the client, or there is none, a machine acts for itself."""
    identity = gate.admit(forge(payload=claims(**said)))
    assert (identity.subject, identity.is_client) == (subject, is_client)


def test_a_subject_has_an_issuer(gate: Gate) -> None:
    """CLM-10: two identities of one name and different issuers are two."""
    ours = gate.admit(forge())
    theirs = SecretGate(issuer="https://b.example").admit(
        forge(payload=claims(iss="https://b.example"))
    )
    assert ours.subject == theirs.subject
    assert ours != theirs
    assert len({ours, theirs}) == 2


@pytest.mark.parametrize("name", ["groups", "roles", "entitlements"])
@pytest.mark.parametrize(
    ("value", "read"),
    [
        (["g1", "g2"], {"g1", "g2"}),
        ([{"value": "g1", "display": "One"}, "g2"], {"g1", "g2"}),
        ("g1", {"g1"}),
        ({"value": "g1"}, {"g1"}),
        (["g1 g2"], {"g1 g2"}),
        *((value, set()) for value in ([], {}, None, 7, [7], [None], [[]], [["g1"]], [{}])),
        ([{"value": ["g1"]}, {"value": 7}, {"display": "g1"}, "g2"], {"g2"}),
    ],
)
def test_groups_have_two_shapes(gate: Gate, name: str, value: Any, read: set[str]) -> None:
    """CLM-11: strings or objects of RFC 7643; what has another shape is left out."""
    identity = gate.admit(forge(payload=claims(**{name: value})))
    assert getattr(identity, name) == frozenset(read)


# -- other kinds of token -----------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"nonce": "n", "at_hash": "x"},
        {"nonce": "n", "c_hash": "x"},
        {"nonce": None, "at_hash": None},
        {"token_use": "id"},
        {"token_use": "ID"},
        {"token_use": "refresh"},
        {"typ": "ID"},
        {"typ": "Refresh"},
        {"typ": "Offline"},
        {"typ": "Refresh Token"},
        {"typ": "RefreshToken"},
        {"typ": "refresh-token"},
        {"token_use": "refreshToken"},
        {"type": "refresh"},
        {"token_use": "id_token"},
    ],
)
def test_id_and_refresh_tokens_are_refused(gate: Gate, more: dict[str, Any]) -> None:
    """CLM-14: by the words of the servers that write them, as JWT and as answer."""
    assert gate.reject(forge(payload=claims(**more))) is Reason.NOT_ACCESS_TOKEN
    assert why({**ANSWER, **more}, ANSWERED) is Reason.NOT_ACCESS_TOKEN


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"token_type": "refresh"}, id="simplejwt"),
        pytest.param({"token_type": "refresh_token"}, id="token_type"),
        pytest.param(
            {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, id="logout"
        ),
        pytest.param({"events": {"https://schemas.openid.net/secevent/caep": {}}}, id="SET"),
        pytest.param({"token_introspection": {"active": True}}, id="RFC 9701"),
        pytest.param({"status_list": {"bits": 1, "lst": "eNo"}}, id="status list"),
    ],
)
def test_other_jwts_without_a_typ_of_their_own_are_refused(
    gate: Gate, more: dict[str, Any]
) -> None:
    """CLM-14: what an issuer signs for another purpose is no access token."""
    assert gate.reject(forge(header(typ="JWT"), claims(**more))) is Reason.NOT_ACCESS_TOKEN


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        *((None, True), ("Bearer", True), ("bearer", True), ("DPoP", True), ("access_token", True)),
        *(("refresh_token", False), ("refresh", False), ("id_token", False), ("", False)),
        *(("mac", False), ("N_A", False), (7, False), (["Bearer"], False), ("Bearer ", False)),
    ],
)
def test_an_answer_is_about_an_access_token(kind: Any, good: bool) -> None:
    """CLM-14: servers call refresh tokens active as well, and may say so in token_type."""
    assert (why({**ANSWER, "token_type": kind}, ANSWERED) is None) is good


@pytest.mark.parametrize("cnf", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, [], "", 0, False])
def test_a_bound_token_is_no_plain_bearer(gate: Gate, cnf: Any) -> None:
    """CLM-14: whoever stole it could use it, had we let it in."""
    assert gate.reject(forge(payload=claims(cnf=cnf))) is Reason.BOUND_TOKEN
    assert why({**ANSWER, "cnf": cnf}, ANSWERED) is Reason.BOUND_TOKEN


# -- text ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [r"\ud800", r"\udfff", r"\udc00\ud800", r"a\uD83D"])
@pytest.mark.parametrize("name", ["sub", "note", "iss", "scope"])
def test_half_a_character_is_a_bad_token(gate: Gate, text: str, name: str) -> None:
    """CLM-15: lone surrogates fit into no log, header or database."""
    said = json.dumps(claims(**{name: ...}))[:-1] + f', "{name}": "{text}"}}'
    assert gate.reject(forge(payload=said.encode())) is Reason.MALFORMED_TOKEN


@pytest.mark.parametrize(
    "subject", ["\0", "a\r\nX: y", "\u202eecila", "😀", "é", "\x7f", " ", "a" * 2000]
)
def test_strange_subjects_are_subjects(gate: Gate, subject: str) -> None:
    """CLM-15: whole characters are let in as they are, and break nothing on the way."""
    identity = gate.admit(forge(payload=claims(sub=subject)))
    assert identity.subject == identity.claims["sub"] == subject
    repr(identity).encode("ascii")


def test_a_pair_of_escapes_is_one_character(gate: Gate) -> None:
    """CLM-15: surrogates in pairs are how JSON escapes what lies beyond."""
    said = json.dumps(claims(sub="😀"))
    assert r"\ud83d\ude00" in said
    assert gate.admit(forge(payload=said.encode())).subject == "😀"


# -- scope --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "scopes"),
    [
        ({"scope": "read write"}, {"read", "write"}),
        ({"scope": ["read", "write"]}, {"read", "write"}),
        ({"scope": ..., "scp": "read write"}, {"read", "write"}),
        ({"scope": ..., "scp": ["read"]}, {"read"}),
        ({"scope": None, "scp": ["read"]}, {"read"}),
        ({"scope": "", "scp": "admin"}, set()),
        ({"scope": []}, set()),
        ({"scope": ...}, set()),
        ({"scope": "  read   read "}, {"read"}),
        ({"scope": "read\twrite"}, {"read\twrite"}),
        ({"scope": "read,write"}, {"read,write"}),
        ({"scope": "Read"}, {"Read"}),
    ],
)
def test_scopes_are_a_string_or_a_list(gate: Gate, said: dict[str, Any], scopes: set[str]) -> None:
    """ERR-10: separated by spaces, in ``scope`` or else ``scp``, by case."""
    assert gate.admit(forge(payload=claims(**said))).scopes == frozenset(scopes)


@pytest.mark.parametrize(
    "scope",
    [7, True, {}, {"read": True}, [7], [["read"]], [None], "x " * 300, "x" * 9000, ["x"] * 300],
)
def test_scopes_of_another_shape_are_refused(scope: Any) -> None:
    """ERR-10: nothing is guessed, and nobody has hundreds of scopes."""
    gate = SecretGate(max_token_length=65_536)
    assert gate.reject(forge(payload=claims(scope=scope))) is Reason.MALFORMED_CLAIM
    assert why({**ANSWER, "scope": scope}, ANSWERED) is Reason.MALFORMED_CLAIM


# -- the table ----------------------------------------------------------------------------


def test_every_rule_has_a_name_of_its_own() -> None:
    """What explains a token walks the same table as what judges it."""
    assert [name for name, _ in RULES] == list(dict.fromkeys(name for name, _ in RULES))
    for _, rule in RULES:
        rule(CLAIMS, STRICT, NOW)


def test_an_answer_may_leave_out_all_but_active() -> None:
    """CLM-6: RFC 7662 makes every other member optional; the audience is our own demand."""
    rules = answer_rules(ISSUER, frozenset({AUDIENCE}), 30.0, audience_required=False)
    assert why({"active": True}, rules) is None
    assert why({"active": True, "exp": None, "iat": None, "nbf": None, "iss": None}, rules) is None
    assert why({"active": True}, ANSWERED) is Reason.WRONG_AUDIENCE
    assert why({"active": True, "aud": []}, rules) is Reason.WRONG_AUDIENCE


# -- introspection, end to end ------------------------------------------------------------


def answered(body: Any, **settings: Any) -> Identity:
    """The identity of a token for which the server answers this."""
    issuer = Issuer(ISSUER, audience=AUDIENCE, algorithm="ES256")
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    issuer.fail("introspection", body=text)
    return gate_of(issuer, clock=lambda: NOW, **settings).admit("opaque")


@pytest.mark.parametrize(
    "active", ["true", "True", 1, 1.0, "yes", [], [True], {}, None, ..., "false", 0, -1]
)
def test_active_is_the_json_boolean(active: Any) -> None:
    """A guess is no answer: what is neither true nor false means that we cannot know."""
    body = {name: value for name, value in {**ANSWER, "active": active}.items() if value is not ...}
    with pytest.raises(Unavailable) as refused:
        answered(body)
    assert refused.value.reason is Reason.INTROSPECTION_UNAVAILABLE


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"null", b"true", b"active", b"<html>", b'{"active":true', b'{"active":tru}'),
        *(b'{"active":false,"active":true}', b'{"active":true,"active":true}', b"\xff{}"),
        b"\xef\xbb\xbf" + json.dumps(ANSWER).encode(),
        json.dumps(ANSWER).encode("utf-16"),
        json.dumps(ANSWER).encode()[:-1] + b',"sub":"mallory"}',
        json.dumps(ANSWER).encode()[:-1] + b',"x":"\\ud800"}',
        json.dumps(ANSWER).encode()[:-1] + b',"x":NaN}',
        json.dumps(ANSWER).encode()[:-1] + b',"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        json.dumps(ANSWER).encode()[:-1] + b',"x":' + b"1" * 5_000 + b"}",
    ],
    ids=lambda body: body[:24],
)
def test_an_answer_is_one_strict_json_object(body: bytes) -> None:
    """JWS-6, JWS-27: what cannot be read for certain is no answer, and nobody's fault below us."""
    with pytest.raises(Unavailable) as refused:
        answered(body)
    assert refused.value.reason is Reason.INTROSPECTION_UNAVAILABLE


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"iss": ISSUER + "/"}, Reason.UNKNOWN_ISSUER),
        ({"iss": 7}, Reason.UNKNOWN_ISSUER),
        ({"aud": "others"}, Reason.WRONG_AUDIENCE),
        ({"aud": None}, Reason.WRONG_AUDIENCE),
        ({"aud": "read write"}, Reason.WRONG_AUDIENCE),
        ({"exp": NOW - 31}, Reason.EXPIRED),
        ({"exp": "1700000600"}, Reason.MALFORMED_CLAIM),
        ({"exp": 10**400}, Reason.MALFORMED_CLAIM),
        ({"nbf": NOW + 31}, Reason.NOT_YET_VALID),
        ({"cnf": {"jkt": "x"}}, Reason.BOUND_TOKEN),
        ({"token_type": "refresh_token"}, Reason.NOT_ACCESS_TOKEN),
        ({"active": False}, Reason.INACTIVE),
    ],
)
def test_an_active_answer_is_judged_like_a_jwt(more: dict[str, Any], reason: Reason) -> None:
    """The same table: active alone lets nobody in."""
    with pytest.raises(InvalidToken) as refused:
        answered({**ANSWER, **more})
    assert refused.value.reason is reason


ANSWER_TYPE = "token-introspection+jwt"


@pytest.mark.parametrize(
    ("changed", "headers"),
    [
        *(({"iat": value}, {}) for value in (10**400, -(10**400), True, "1700000000", None, [])),
        *(({"aud": value}, {}) for value in ("others", None, [], 7, [{}], {AUDIENCE: 1})),
        *(({"iss": value}, {}) for value in (ISSUER + "/", None, [ISSUER])),
        *(({}, {"typ": value}) for value in ("at+jwt", "JWT", None, "token-introspection")),
        *(({"token_introspection": value}, {}) for value in (None, True, [], "x", {})),
        ({"iat": NOW - 3600}, {}),
        ({}, {"crit": ["x"]}),
        ({}, {"alg": "none"}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_signed_answer_is_one_for_us_and_of_now(
    changed: dict[str, Any], headers: dict[str, Any]
) -> None:
    """CLM-14, JWS-27: what is no answer of RFC 9701 is none, so we cannot know."""
    with pytest.raises(Unavailable) as refused:
        answered_signed(changed, headers)
    assert refused.value.reason is Reason.INTROSPECTION_UNAVAILABLE


def test_a_signed_answer_is_an_answer() -> None:
    """RFC 9701: what all the refusals above differ from in one point alone."""
    identity = answered_signed({}, {})
    assert (identity.subject, identity.kind, dict(identity.claims)) == ("alice", "opaque", ANSWER)
    assert answered_signed({"iat": NOW - 60, "aud": ["x", AUDIENCE]}, {}).subject == "alice"


def answered_signed(changed: dict[str, Any], headers: dict[str, Any]) -> Identity:
    """The identity of a token for which a signed answer comes."""
    issuer = Issuer(ISSUER, audience=AUDIENCE, algorithm="ES256")
    said = {"iat": NOW, "exp": None, "token_introspection": ANSWER, **changed}
    body = issuer.jwt(headers={"typ": ANSWER_TYPE, **headers}, **said).encode()
    issuer.fail("introspection", body=body, content_type=f"application/{ANSWER_TYPE}")
    # A float, as the clock of every process is: sums of it and of huge numbers overflow.
    return gate_of(issuer, clock=lambda: float(NOW), introspection_signed=True).admit("opaque")


def test_an_active_answer_is_an_identity() -> None:
    """Floats and absent members are what real servers send."""
    identity = answered({**ANSWER, "exp": NOW + 0.5, "iat": NOW - 0.5})
    assert (identity.kind, identity.subject, identity.expires_at) == ("opaque", "alice", NOW + 0.5)
    bare = answered({"active": True, "client_id": "shop"}, introspection_audience="if-present")
    assert (bare.subject, bare.is_client, bare.issuer) == ("shop", True, ISSUER)
    assert (bare.expires_at, bare.audience, bare.scopes) == (None, (), frozenset())


def test_both_ways_must_name_one_subject(issuer: Issuer) -> None:
    """With ``both`` the claims of the JWT are the identity, and another subject is refused."""
    gate = gate_of(issuer, jwt_validation="both", introspection_ttl=0)
    token = issuer.jwt(sub="alice", extra="of the JWT")
    assert gate.admit(token).claims["extra"] == "of the JWT"
    body = {"active": True, "aud": issuer.audience}
    for sub, good in (("alice", True), (None, True), ("bob", False), ("", False), ("ALICE", False)):
        issuer.fail("introspection", body=json.dumps({**body, "sub": sub}).encode())
        if good:
            assert gate.admit(token).subject == "alice"
        else:
            assert gate.reject(token) is Reason.SUBJECT_MISMATCH


def test_an_answer_that_our_rules_refuse_ends_an_older_one() -> None:
    """An older active answer does not come back from the dead when the server is down."""
    now = [float(NOW)]
    issuer = Issuer(ISSUER, audience=AUDIENCE, algorithm="ES256")
    settings = {"introspection_ttl": 1, "stale_if_error": 600}
    gate = gate_of(issuer, clock=lambda: now[0], **settings)
    issuer.fail("introspection", body=json.dumps(ANSWER).encode())
    gate.admit("opaque")
    now[0] += 2
    issuer.fail("introspection", body=json.dumps({**ANSWER, "aud": "others"}).encode())
    assert gate.reject("opaque") is Reason.WRONG_AUDIENCE
    now[0] += 2
    issuer.fail("introspection", status=500)
    gate.refuse("opaque")


def test_no_rule_is_left_out() -> None:
    """What has a claim of the rules that look for something rare is not usual."""
    usual = {"iss": ISSUER, "exp": NOW + 60, "iat": NOW, "aud": AUDIENCE, "sub": "a", "scope": ""}
    assert usual_facts(usual, b"", COMPATIBLE, NOW) is not None
    for name in ("nbf", "cnf", "nonce", "type", "typ", "token_use", "token_type", "events"):
        assert usual_facts({**usual, name: None}, b"", COMPATIBLE, NOW) is None
