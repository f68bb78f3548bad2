"""What the RFCs print, judged as they say it should be."""

import json
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import Identity, ResourceServer, Settings
from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.flow.drivers import run
from bearer_middleware.testing import Issuer
from bearer_middleware.testing.signing import sign

FOLDER = Path(__file__).parents[3] / "shared" / "vectors" / "rfc-examples"
SECRET = "thirty-two bytes are enough for HS256"
pytestmark = pytest.mark.needs("../shared/vectors/rfc-examples")


def read(name: str) -> Any:
    """A file of examples."""
    return json.loads((FOLDER / name).read_text())


def show(server: ResourceServer, token: str) -> Identity:
    """The identity of a token that is let in."""
    identity = run(server.authenticate([b"Bearer " + token.encode()]), server.transport)
    assert identity is not None
    return identity


def test_opaque_tokens_with_dots_are_opaque() -> None:
    """DET-1: the tokens that RFC 6749, 6750, 7662 and 9449 print are introspected."""
    issuer = Issuer()
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    tokens = [example["token"] for example in read("opaque_tokens.json")["tokens"]]
    assert [token.count(".") for token in tokens] == [2, 2, 0, 1]
    for token in tokens:
        assert show(server, issuer.opaque(token=token)).kind == "opaque"
    assert (issuer.requests["introspection"], issuer.requests["jwks"]) == (len(tokens), 0)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("profile", ["compatible", "rfc9068"])
def test_at_jwt_examples_are_let_in(number: int, profile: str) -> None:
    """CLM-1, CLM-8: RFC 9068 section 3 and RFC 9470 section 6.1, whose typ is ``at+JWT``."""
    example = read("at_jwt_decoded.json")[number]
    claims = example["claims"]
    server = ResourceServer(
        Settings(issuer=claims["iss"], audience=claims["aud"], hmac_secret=SECRET, profile=profile),
        clock=lambda: claims["exp"] - 1,
    )
    header = {**example["header"], "alg": "HS256"}
    identity = show(server, sign(header, claims, "HS256", SECRET))
    assert (identity.subject, identity.client_id) == (claims["sub"], claims["client_id"])
    assert identity.scopes == frozenset(claims["scope"].split())
    assert (identity.token_id, identity.audience) == (claims["jti"], (claims["aud"],))
    assert dict(identity.claims) == claims
    for missing in ("iss", "sub", "aud", "exp", "iat", "jti", "client_id"):
        rest = {name: value for name, value in claims.items() if name != missing}
        if profile == "rfc9068" or missing in {"iss", "aud", "exp"}:
            with pytest.raises(InvalidToken):
                show(server, sign(header, rest, "HS256", SECRET))


def answered(body: dict[str, Any], **settings: Any) -> Identity:
    """What becomes of a token for which this is answered, a second before its ``exp``."""
    issuer = Issuer(body.get("iss", "https://issuer.test"))
    issuer.fail("introspection", body=json.dumps(body).encode())
    said = issuer.settings(audience=body.get("aud", "api"), **settings)
    server = ResourceServer(
        Settings(**said), transport=issuer.transport(), clock=lambda: body.get("exp", 2) - 1
    )
    return show(server, "opaque")


def test_introspection_answers_are_judged_as_expected() -> None:
    """RFC 7662 section 2.2, RFC 9449 section 6.2, RFC 9470 section 6.2."""
    plain, inactive, bound, stepped_up = (
        example["body"] for example in read("introspection_responses.json")
    )
    identity = answered(plain)
    assert (identity.subject, identity.kind) == (plain["sub"], "opaque")
    assert identity.scopes == {"read", "write", "dolphin"}
    assert identity.claims["extension_field"] == "twenty-seven"
    assert answered(stepped_up).claims["acr"] == "myACR"
    assert why(inactive) is Reason.INACTIVE
    assert why(bound, introspection_audience="any") is Reason.BOUND_TOKEN
    assert why(bound) in {Reason.WRONG_AUDIENCE, Reason.BOUND_TOKEN}


def why(body: dict[str, Any], **settings: Any) -> Reason:
    """Why a token with this answer is refused."""
    with pytest.raises(InvalidToken) as refused:
        answered(body, **settings)
    return refused.value.reason


def test_bound_tokens_are_no_plain_bearer_tokens() -> None:
    """RFC 8705 section 3, RFC 9449 section 7: a JWT or an answer with ``cnf``, either binding."""
    thumbprint = read("mtls_rfc8705.json")["cnf_example"]
    dpop = read("dpop_rfc9449.json")
    for cnf in (thumbprint, dpop["introspection_response"]["cnf"]):
        issuer = Issuer(algorithm="ES256")
        server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
        for token in (issuer.jwt(cnf=cnf), issuer.opaque(cnf=cnf)):
            with pytest.raises(InvalidToken) as refused:
                show(server, token)
            assert refused.value.reason is Reason.BOUND_TOKEN
    assert why(dpop["introspection_response"], introspection_audience="any") is Reason.BOUND_TOKEN


def test_a_dpop_proof_is_no_access_token() -> None:
    """CLM-14: the proofs of RFC 9449, with whatever is configured, and nothing is fetched."""
    issuer = Issuer(algorithm="ES256")
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    for example in read("dpop_rfc9449.json")["proofs"]:
        with pytest.raises(InvalidToken):
            show(server, example["proof"])
    assert not issuer.requests
