"""All JWS cases of Wycheproof, judged by our own front and our own filter of keys."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.errors import InvalidToken
from bearer_middleware.settings.grammar import SIGNATURE_ALGORITHMS
from bearer_middleware.tokens import jws
from bearer_middleware.tokens.jws import parse_jws, read_header
from bearer_middleware.tokens.keys import KeySet, read_jwks, secret_keys

FOLDER = Path(__file__).parents[3] / "shared" / "vectors" / "wycheproof"
HMAC = ("HS256", "HS384", "HS512")

#: Where the label is not what a verifier of JWTs has to say.
REFUSED = {
    *(346, 347, 350, 351),  # marked valid; the algorithm of the key contradicts the token
    *(372, 373),  # marked valid; there is a "?" inside a segment
}
ACCEPTED = {367, 370}  # marked invalid; the same string as 357, which is valid
EITHER = {349}  # the key_ops of its private half is one string, "sign, verify"

pytestmark = pytest.mark.needs("../shared/vectors/wycheproof")


def accepts(token: str, jwk: dict[str, Any]) -> bool:
    """Would this key have let this signature through?"""
    try:
        header = read_header(token.encode("utf-8", "surrogatepass"))
        parts = None if header is None else parse_jws(token.encode(), header)
        signature = b"" if parts is None else parts.signature
    except InvalidToken:
        return False
    if parts is None:
        return False
    key = keys_of(jwk).find(parts.header.kid, parts.header.alg)
    return key is not None and key.verifies(parts.signing_input, signature)


def keys_of(jwk: dict[str, Any]) -> KeySet:
    """A set of this one key; a symmetric one is the configured secret of its algorithm."""
    if jwk["kty"] == "oct":
        secret = base64.urlsafe_b64decode(jwk["k"] + "==")
        return secret_keys(secret, [name for name in HMAC if name == jwk["alg"]])
    return read_jwks(json.dumps({"keys": [jwk]}).encode(), SIGNATURE_ALGORITHMS)


@pytest.fixture
def any_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The payloads of these cases are no claims: let the rest of the front decide."""
    strict = jws.parse_object

    def parse(data: bytes) -> dict[str, Any]:
        try:
            return strict(data)
        except ValueError:
            if b'"alg"' in data or b'"kid"' in data:  # a header, whose JSON is under test
                raise
            return {}

    monkeypatch.setattr(jws, "parse_object", parse)


def cases() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each case with the key that its verifier has."""
    document = json.loads((FOLDER / "json_web_signature_test.json").read_text())
    return [
        (case, group.get("public") or group["private"])
        for group in document["testGroups"]
        for case in group["tests"]
    ]


def is_good(case: dict[str, Any]) -> bool:
    """Has the token to be let through?"""
    number = case["tcId"]
    return number in ACCEPTED or (case["result"] == "valid" and number not in REFUSED)


@pytest.mark.usefixtures("any_payload")
def test_every_case_is_judged_rightly() -> None:
    """JWS-1, JWS-9, JWS-10, JWS-12, JWS-13, JWS-16, JWS-21: none let in wrongly, none refused."""
    counts = {"accepted": 0, "refused": 0}
    wrong = []
    for case, jwk in cases():
        accepted = accepts(case["jws"], jwk)
        counts["accepted" if accepted else "refused"] += 1
        if accepted is not is_good(case) and case["tcId"] not in EITHER:
            wrong.append((case["tcId"], case["comment"], "accepted" if accepted else "refused"))
    print(f"Wycheproof JWS: {counts}, {len(wrong)} of them wrongly")  # noqa: T201
    assert wrong == []
    assert sum(counts.values()) == 401
    assert counts["accepted"] >= 40


def test_without_claims_as_payload_nothing_is_let_in() -> None:
    """JWS-25, JWS-27: with the whole front, the payloads of these cases are no claims at all."""
    accepted = [case["tcId"] for case, jwk in cases() if accepts(case["jws"], jwk)]
    good = {case["tcId"] for case, _ in cases() if is_good(case)} | EITHER
    assert set(accepted) <= good


def test_hmac_keys_of_a_remote_set_serve_nothing() -> None:
    """JWS-15: the symmetric keys of these cases would have been refused as published ones."""
    symmetric = [jwk for _, jwk in cases() if jwk["kty"] == "oct"]
    assert symmetric
    for jwk in symmetric:
        document = json.dumps({"keys": [jwk]}).encode()
        assert not read_jwks(document, (*SIGNATURE_ALGORITHMS, *HMAC)).keys
