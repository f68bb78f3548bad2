"""Several issuers at once: directories of Entra with their keys, tables of several products."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import Identity, Settings
from bearer_middleware.errors import ConfigError, Reason
from tests.providers.conftest import Make, Provider
from tests.providers.golden import (
    CLIENT,
    COGNITO_NEWER,
    DIRECTORY,
    ENTRA1,
    GOLDEN,
    PROJECT,
    ROLES,
    STRANGE_DIRECTORY,
    USER,
)

ONE = GOLDEN["entra, version 2"]
OTHER = "22222222-2222-3333-4444-555555555555"
TEMPLATE = "https://login.microsoftonline.com/{tenantid}/v2.0"


def keys_of(directory: str) -> str:
    """Where the keys of a directory are."""
    return f"https://login.microsoftonline.com/{directory}/discovery/v2.0/keys"


def issuer_of(directory: str) -> str:
    """Its issuer of version 2."""
    return f"https://login.microsoftonline.com/{directory}/v2.0"


def bound(provider: Provider, issuer: Any) -> dict[str, Any]:
    """The published keys, bound to an issuer."""
    keys = [{**key, "issuer": issuer} for key in provider.issuer.jwks["keys"]]
    return {"keys": keys}


def test_listed_directories(make: Make) -> None:
    """Each directory on the list, with its own ``iss`` and ``tid`` alone; no other one."""
    provider = make({**ONE.settings, "provider_tenant": [DIRECTORY, OTHER.upper()]})
    for directory in (DIRECTORY, OTHER):
        token = provider.jwt(ONE.claims, iss=issuer_of(directory), tid=directory)
        identity = provider.identity(token)
        assert identity.tenant == directory
        assert identity.subject == f"{USER}.{directory}"
        assert identity.issuer == issuer_of(directory)
    for iss, tid in (
        (issuer_of(DIRECTORY), OTHER),
        (issuer_of(OTHER), DIRECTORY),
        (issuer_of(STRANGE_DIRECTORY), STRANGE_DIRECTORY),
        (issuer_of(STRANGE_DIRECTORY), DIRECTORY),
        (issuer_of(DIRECTORY.upper()), DIRECTORY),
    ):
        refusal = provider.refusal(provider.jwt(ONE.claims, iss=iss, tid=tid))
        assert refusal.reason is Reason.UNKNOWN_ISSUER
    assert {url for _, url in provider.network.asked} == {keys_of(DIRECTORY), keys_of(OTHER)}


@pytest.mark.parametrize("issuer", [TEMPLATE, issuer_of(DIRECTORY), None])
def test_keys_that_may_sign_for_a_directory(issuer: str | None, make: Make) -> None:
    """Those of all directories, those of this one, and what does not say."""
    provider = make(ONE.settings)
    provider.network.publish(keys_of(DIRECTORY), bound(provider, issuer))
    assert provider.identity(provider.jwt(ONE.claims)).tenant == DIRECTORY


@pytest.mark.parametrize("issuer", [issuer_of(STRANGE_DIRECTORY), "https://evil.example", 7, ""])
def test_keys_of_another_directory(issuer: Any, make: Make) -> None:
    """A key that is bound to another directory verifies nothing for this one: as there is none
    then, nobody can know.
    """
    provider = make(ONE.settings)
    provider.network.publish(keys_of(DIRECTORY), bound(provider, issuer))
    refusal = provider.refusal(provider.jwt(ONE.claims))
    assert (refusal.status, refusal.reason) == (503, Reason.JWKS_UNAVAILABLE)


def test_keys_in_a_file_are_bound_as_well(make: Make, tmp_path: Path) -> None:
    """Where keys come from a file, whose they are matters as much."""
    provider = make(ONE.settings)
    file = tmp_path / "keys.json"
    settings = {**ONE.settings, "jwks_file": str(file)}
    file.write_text(json.dumps(bound(provider, issuer_of(STRANGE_DIRECTORY))))
    with pytest.raises(ConfigError, match="bound to another issuer"):
        make(settings)
    file.write_text(json.dumps(bound(provider, TEMPLATE)))
    assert make(settings).identity(provider.jwt(ONE.claims)).tenant == DIRECTORY


def test_an_issuer_that_is_said_is_meant_to_the_letter(make: Make) -> None:
    """Who says the issuer of version 2 gets no tokens of version 1."""
    provider = make({"provider": "entra", "issuer": issuer_of(DIRECTORY), "audience": "api-id"})
    older = {**ONE.claims, "iss": f"https://sts.windows.net/{DIRECTORY}/", "ver": "1.0"}
    assert provider.identity(provider.jwt(ONE.claims)).tenant == DIRECTORY
    assert provider.refusal(provider.jwt(older)).reason is Reason.UNKNOWN_ISSUER


def test_tables_of_several_products(make: Make) -> None:
    """Each table is of one product, or of none, and each token is read by its own issuer."""
    tables = [GOLDEN[name].settings for name in ("okta", "keycloak", "firebase")]
    tables[0] = {**tables[0], "audience": "api://default"}
    plain = {"issuer": "https://as.example", "jwks_url": "https://as.example/keys"}
    provider = make({"audience": "orders", "issuers": [*tables, plain]})
    assert provider.settings.issuers[2].audience == ("my-project-1",)
    for name in ("okta", "keycloak", "firebase"):
        golden = GOLDEN[name]
        identity = provider.identity(provider.jwt(golden.claims))
        expected = golden.identity
        assert {name: getattr(identity, name) for name in expected} == expected
    claims = {"iss": plain["issuer"], "sub": "bob", "uid": "x", "roles": ["r"], "groups": ["g"]}
    usual = provider.identity(provider.jwt(claims, aud="orders", typ="any"))
    assert (usual.subject, usual.roles) == ("bob", {"r"})


@pytest.mark.parametrize(
    ("granted", "roles"),
    [
        ({"editor": {"2034": "a"}, "admin": {"777": "b"}}, {"editor"}),
        ({"admin": {"777": "b", "2034": "a"}}, {"admin"}),
        ({"admin": {}}, set()),
        ({"admin": "2034"}, set()),
        (["editor"], {"editor"}),
    ],
)
def test_zitadel_roles_of_another_organization(granted: Any, roles: set[str], make: Make) -> None:
    """Whoever owns an organization grants roles to anybody, but only for that organization."""
    golden = GOLDEN["zitadel"]
    provider = make(golden.settings)
    identity = provider.identity(provider.jwt({**golden.claims, ROLES: granted}))
    assert (identity.roles, identity.tenant) == (roles, "2034")


def test_zitadel_roles_without_an_organization(make: Make) -> None:
    """A token that does not say whose user it is has the roles, and no tenant."""
    golden = GOLDEN["zitadel"]
    provider = make(golden.settings)
    owner = "urn:zitadel:iam:user:resourceowner:id"
    identity = provider.identity(provider.jwt({**golden.claims, owner: None}))
    assert (identity.roles, identity.tenant) == ({"editor", "viewer"}, None)


def test_zitadel_roles_of_another_project(make: Make) -> None:
    """``…:project:roles`` are those of the client's project, which may be anybody's."""
    golden = GOLDEN["zitadel"]
    settings = {"provider": "zitadel", "provider_domain": "acme.zitadel.cloud"}
    provider = make({**settings, "audience": PROJECT, "algorithms": "RS256"})
    strange = {"urn:zitadel:iam:org:project:roles": {"admin": {"2034": "acme.example"}}}
    identity = provider.identity(provider.jwt({**golden.claims, **strange}))
    assert identity.roles == {"editor", "viewer"}


def test_listed_applications_need_no_grant(make: Make) -> None:
    """Any application of a directory gets tokens for any API; one on our list is meant so."""
    listed = make({**ONE.settings, "provider_clients": CLIENT})
    nothing = {"scp": None, "roles": None, "sub": USER}
    identity = listed.identity(listed.jwt({**ONE.claims, **nothing}))
    assert (identity.is_client, identity.client_id) == (True, CLIENT)
    refusal = listed.refusal(listed.jwt({**ONE.claims, **nothing}, azp="another"))
    assert refusal.reason is Reason.WRONG_AUDIENCE


@pytest.mark.parametrize(
    "tables",
    [
        [ONE.settings, {"provider": "entra", "issuer": ENTRA1, "audience": "b"}],
        [ONE.settings, {"issuer": ENTRA1, "jwks_url": "https://as.example/keys", "audience": "b"}],
        [
            GOLDEN["cognito"].settings,
            {"provider": "cognito", "issuer": COGNITO_NEWER, "audience": "b"},
        ],
    ],
)
def test_two_tables_for_one_name(tables: list[dict[str, Any]]) -> None:
    """Which of them speaks for a token would be a guess, if one has an alias of the other."""
    for order in (tables, tables[::-1]):
        with pytest.raises(ConfigError, match="is the same as that of") as caught:
            Settings(issuers=order)
        assert len(caught.value.mistakes) == 1


@pytest.mark.parametrize("named", ["https://accounts.google.com", "accounts.google.com"])
def test_what_a_validator_names_by_an_alias_is_revoked(named: str, make: Make) -> None:
    """Identities of the user's own are held against what was revoked, by either spelling."""

    def validator(token: str) -> Identity:
        return Identity(subject="1102", issuer=named)

    provider = make(GOLDEN["google"].settings, validators=[validator])
    assert provider.identity("opaque").subject == "1102"
    provider.server.revoke(issuer="https://accounts.google.com", subject="1102")
    assert provider.refusal("opaque").reason is Reason.REVOKED
