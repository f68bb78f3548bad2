"""``BEARER_PROVIDER``: what it completes, what wins over it, and what it does not put up with."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from bearer_middleware.errors import ConfigError
from bearer_middleware.settings import IssuerSettings, Settings
from bearer_middleware.settings.grammar import SIGNATURE_ALGORITHMS
from bearer_middleware.settings.issuers import ProviderName
from bearer_middleware.settings.providers import PROVIDERS
from bearer_middleware.settings.variables import VARIABLES
from bearer_middleware.tokens.preset import USUAL

ID = "1111abcd-2222-3333-4444-555555555555"
POOL = "eu-west-1_AbC123"
AUTH0 = {"provider": "auth0", "provider_domain": "dev.auth0.com", "audience": "orders"}
OKTA = {"provider": "okta", "provider_domain": "dev.okta.com"}
FIREBASE = {"provider": "firebase", "provider_tenant": "my-project"}
COGNITO = {"provider": "cognito", "provider_tenant": POOL, "audience": "client"}
ENTRA = {"provider": "entra", "provider_tenant": ID, "audience": "api"}
KEYCLOAK = {"provider": "keycloak", "provider_domain": "sso.example.com"}
KEYCLOAK |= {"provider_tenant": "shop", "audience": "orders"}
ZITADEL = {"provider": "zitadel", "provider_domain": "acme.zitadel.cloud"}
ZITADEL |= {"provider_tenant": "312"}
HYDRA = {"provider": "hydra", "provider_domain": "hydra.example.com", "audience": "orders"}
GOOGLE = {"provider": "google", "audience": "client"}
EVERY = [AUTH0, OKTA, FIREBASE, COGNITO, ENTRA, KEYCLOAK, ZITADEL, HYDRA, GOOGLE]
PROOF = {"client_id": "orders", "client_secret": "s3cret"}


def only(**keywords: Any) -> IssuerSettings:
    """The one issuer of these settings."""
    (issuer,) = Settings(**keywords).issuers
    return issuer


def wrong(**keywords: Any) -> tuple[str, ...]:
    """What is wrong with them."""
    with pytest.raises(ConfigError) as caught:
        Settings(**keywords)
    return caught.value.mistakes


def test_every_product_is_named_everywhere() -> None:
    """The table, the type and the words that the setting takes are the same."""
    names = ProviderName.__args__  # type: ignore[attr-defined]
    assert tuple(PROVIDERS) == names
    for name in names:
        assert VARIABLES["provider"].parse(name) == name


@pytest.mark.parametrize(
    ("keywords", "issuer", "keys", "audience"),
    [
        (AUTH0, "https://dev.auth0.com/", "https://dev.auth0.com/.well-known/jwks.json", "orders"),
        (
            OKTA,
            "https://dev.okta.com/oauth2/default",
            "https://dev.okta.com/oauth2/default/v1/keys",
            "api://default",
        ),
        (
            FIREBASE,
            "https://securetoken.google.com/my-project",
            "https://www.googleapis.com/service_accounts/v1/jwk/"
            "securetoken@system.gserviceaccount.com",
            "my-project",
        ),
        (
            COGNITO,
            f"https://cognito-idp.eu-west-1.amazonaws.com/{POOL}",
            f"https://cognito-idp.eu-west-1.amazonaws.com/{POOL}/.well-known/jwks.json",
            "client",
        ),
        (
            COGNITO | {"provider_tenant": "cn-north-1_A"},
            "https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_A",
            "https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_A/.well-known/jwks.json",
            "client",
        ),
        (
            ENTRA,
            f"https://login.microsoftonline.com/{ID}/v2.0",
            f"https://login.microsoftonline.com/{ID}/discovery/v2.0/keys",
            "api",
        ),
        (
            ENTRA | {"provider_domain": "login.microsoftonline.us"},
            f"https://login.microsoftonline.us/{ID}/v2.0",
            f"https://login.microsoftonline.us/{ID}/discovery/v2.0/keys",
            "api",
        ),
        (
            KEYCLOAK | {"provider_domain": "SSO.example.com:8443/auth"},
            "https://sso.example.com:8443/auth/realms/shop",
            "https://sso.example.com:8443/auth/realms/shop/protocol/openid-connect/certs",
            "orders",
        ),
        (
            ZITADEL,
            "https://acme.zitadel.cloud",
            "https://acme.zitadel.cloud/oauth/v2/keys",
            "312",
        ),
        (
            HYDRA,
            "https://hydra.example.com",
            "https://hydra.example.com/.well-known/jwks.json",
            "orders",
        ),
        (
            GOOGLE,
            "https://accounts.google.com",
            "https://www.googleapis.com/oauth2/v3/certs",
            "client",
        ),
    ],
)
def test_what_follows_from_a_few_words(
    keywords: dict[str, Any], issuer: str, keys: str, audience: str
) -> None:
    """Issuer, keys and audience, to the letter."""
    settings = only(**keywords)
    assert (settings.issuer, settings.jwks_url) == (issuer, keys)
    assert settings.audience == (audience,)
    assert settings.introspection_url is None
    assert not settings.introspection


@pytest.mark.parametrize("keywords", EVERY, ids=lambda one: str(one["provider"]))
def test_said_in_variables(keywords: dict[str, Any]) -> None:
    """Variables do the same as keywords, and what comes of it travels."""
    environ = {VARIABLES[name].name: value for name, value in keywords.items()}
    settings = Settings.from_env(environ)
    assert settings == Settings(**keywords)
    assert pickle.loads(pickle.dumps(settings)) == settings
    preset = settings.issuers[0].preset
    assert preset.title == PROVIDERS[keywords["provider"]].title
    assert pickle.loads(pickle.dumps(preset)) == preset


def test_without_a_provider_nothing_changes() -> None:
    """What is usual stays so."""
    assert only(issuer="https://as.example", audience="orders").preset is USUAL


@pytest.mark.parametrize("keywords", EVERY, ids=lambda one: str(one["provider"]))
def test_the_issuer_may_be_said_instead(keywords: dict[str, Any]) -> None:
    """The issuer alone says domain and tenant; said beside them it has to be the same."""
    issuer = only(**keywords).issuer
    said = {
        "provider": keywords["provider"],
        "issuer": issuer,
        "audience": keywords.get("audience"),
    }
    if keywords is ZITADEL:
        said["audience"] = "312"
    again = only(**said)
    assert again.issuer == issuer
    assert again.jwks_url == only(**keywords).jwks_url
    assert only(**keywords, issuer=issuer).issuer == issuer


def test_what_is_said_wins() -> None:
    """Keys of a mirror or of a file, other algorithms, another audience, another endpoint."""
    settings = only(**AUTH0, jwks_url="https://mirror.example/keys", algorithms="PS256,RS256")
    assert settings.jwks_url == "https://mirror.example/keys"
    assert settings.algorithms == ("PS256", "RS256")
    assert only(**OKTA, audience="api://orders").audience == ("api://orders",)
    url = "https://proxy.example/introspect"
    assert only(**KEYCLOAK, **PROOF, introspection_url=url).introspection_url == url
    assert only(**AUTH0).algorithms == ("RS256",)
    assert only(**KEYCLOAK).algorithms == SIGNATURE_ALGORITHMS


def test_introspection_where_there_are_credentials() -> None:
    """Where we can prove who we are the product is asked, at its own address."""
    assert only(**KEYCLOAK, **PROOF).introspection
    key = only(**ZITADEL, client_id="312", client_auth="none")
    assert key.introspection_url == "https://acme.zitadel.cloud/oauth/v2/introspect"
    hydra = only(**HYDRA, introspection_url="https://admin.internal/admin/oauth2/introspect")
    assert (hydra.client_auth, hydra.introspection) == ("none", True)


def test_opaque_tokens_are_an_explicit_choice() -> None:
    """Userinfo says nothing of an audience, so nobody asks it unasked."""
    asked = only(**AUTH0, provider_opaque="true")
    assert asked.introspection_url == "https://dev.auth0.com/userinfo"
    assert (asked.introspection_audience, asked.client_auth) == ("any", "none")
    google = only(**GOOGLE, provider_opaque=True)
    assert (google.introspection_audience, google.token_prefix) == ("required", "ya29.")


def test_several_tenants_are_several_issuers() -> None:
    """Each has its own keys; what is the matter with all of them is said once."""
    settings = Settings(**COGNITO | {"provider_tenant": ["eu-west-1_A", "us-east-1_B"]})
    assert [one.issuer for one in settings.issuers] == [
        "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A",
        "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_B",
    ]
    several = COGNITO | {"provider_tenant": ["eu-west-1_A", "us-east-1_B"], "audience": None}
    assert len(wrong(**several)) == 1


def test_beside_tables() -> None:
    """A provider is of one table, as an issuer is, and inherits what others do."""
    settings = Settings(leeway=5, issuers=[AUTH0, FIREBASE])
    assert [one.provider for one in settings.issuers] == ["auth0", "firebase"]
    assert [one.leeway for one in settings.issuers] == [5, 5]
    (mistake,) = wrong(provider="auth0", issuers=[FIREBASE])
    assert mistake.startswith("BEARER_PROVIDER: is one issuer's")
    (mistake,) = wrong(issuers=[{"provider": "auth0", "audience": "orders"}])
    assert mistake.startswith("[[issuers]] #1 provider_domain: is required with provider=auth0")


@pytest.mark.parametrize("provider", ["Auth0", "authO"])
def test_a_misspelled_provider_is_one_mistake(provider: str) -> None:
    """What it would complete is not asked for besides."""
    (mistake,) = wrong(provider=provider, audience="orders")
    assert mistake.startswith("BEARER_PROVIDER: must be one of")
    (mistake,) = wrong(issuers=[{"provider": provider, "audience": "a"}])
    assert mistake.startswith("[[issuers]] #1 provider: must be one of")


@pytest.mark.parametrize("keywords", [AUTH0, COGNITO, FIREBASE, ENTRA, GOOGLE])
def test_our_client_id_where_nobody_is_asked(keywords: dict[str, Any]) -> None:
    """It is the audience of logout tokens, and needs no proof that would have no use."""
    settings = Settings(**keywords, client_id="ours", logout_path="/logout")
    assert (settings.issuers[0].client_id, settings.issuers[0].introspection) == ("ours", False)


DOMAIN, TENANT, ISSUER = "BEARER_PROVIDER_DOMAIN: ", "BEARER_PROVIDER_TENANT: ", "BEARER_ISSUER: "


@pytest.mark.parametrize(
    ("keywords", "mistake"),
    [
        # Nothing, or too little.
        (
            {"provider": "nobody", "issuer": "https://a", "audience": "b"},
            "BEARER_PROVIDER: must be",
        ),
        (AUTH0 | {"provider_domain": None}, f"{DOMAIN}is required with BEARER_PROVIDER=auth0"),
        (OKTA | {"provider_domain": None}, f"{DOMAIN}is required"),
        (ZITADEL | {"provider_domain": None}, f"{DOMAIN}is required"),
        (HYDRA | {"provider_domain": None}, f"{DOMAIN}is required"),
        (KEYCLOAK | {"provider_tenant": None}, f"{TENANT}is required"),
        (FIREBASE | {"provider_tenant": None}, f"{TENANT}is required"),
        (COGNITO | {"provider_tenant": None}, f"{TENANT}is required"),
        (ENTRA | {"provider_tenant": None}, f"{TENANT}is required"),
        (GOOGLE | {"audience": None}, "BEARER_AUDIENCE: is required"),
        (ZITADEL | {"provider_tenant": None}, "BEARER_AUDIENCE: is required"),
        (OKTA | {"provider_tenant": "aus1"}, "BEARER_AUDIENCE: is required"),
        # What is spelled otherwise than it has to be.
        (AUTH0 | {"provider_domain": "https://dev.auth0.com"}, f"{DOMAIN}must be a host"),
        (AUTH0 | {"provider_domain": "dev.auth0.com/"}, f"{DOMAIN}must be a host"),
        (AUTH0 | {"provider_domain": "dev"}, f"{DOMAIN}must be a whole host"),
        (AUTH0 | {"provider_domain": "a@b.example"}, f"{DOMAIN}must be a host"),
        (OKTA | {"provider_domain": "dev-admin.okta.com"}, "without -admin"),
        (OKTA | {"provider_tenant": "a/b", "audience": "x"}, f"{TENANT}must be one segment"),
        (KEYCLOAK | {"provider_domain": "sso.example.com/auth/"}, f"{DOMAIN}must be a host"),
        (KEYCLOAK | {"provider_domain": "sso.example.com/../x"}, f"{DOMAIN}must be a host"),
        (KEYCLOAK | {"provider_tenant": ".."}, f"{TENANT}must be one segment"),
        (FIREBASE | {"provider_tenant": "My Project"}, f"{TENANT}must be the id of a project"),
        (COGNITO | {"provider_tenant": "AbC123"}, "begins with its region"),
        (ENTRA | {"provider_tenant": "common"}, "would let in tokens of any"),
        (ENTRA | {"provider_tenant": "organizations"}, "would let in tokens of any"),
        (ENTRA | {"provider_tenant": "acme.onmicrosoft.com"}, "must be the id of a directory"),
        (ENTRA | {"provider_domain": "login.evil.example"}, f"{DOMAIN}must be one of"),
        (ZITADEL | {"provider_tenant": "1,2"}, f"{TENANT}must be one"),
        # Issuers that are none of this product.
        ({"provider": "auth0", "issuer": "https://dev.auth0.com"}, "with the slash at its end"),
        ({"provider": "okta", "issuer": "https://dev.okta.com"}, "custom one"),
        ({"provider": "okta", "issuer": "https://dev.okta.com/oauth2/default/"}, "without a slash"),
        (
            {"provider": "firebase", "issuer": "https://session.firebase.google.com/my-project"},
            "session cookies are not served",
        ),
        ({"provider": "cognito", "issuer": f"https://evil.example/{POOL}"}, "is no issuer of"),
        (
            {
                "provider": "cognito",
                "issuer": f"https://issuer.cognito-idp.eu-west-1.amazonaws.com/{POOL}",
            },
            "is no issuer of Cognito",
        ),
        (
            {"provider": "entra", "issuer": "https://login.microsoftonline.com/common/v2.0"},
            "neither common nor organizations",
        ),
        (
            {
                "provider": "entra",
                "issuer": f"https://sts.chinacloudapi.cn/{ID}/",
                "audience": "api",
            },
            "of another cloud",
        ),
        ({"provider": "google", "issuer": "https://google.com"}, "is no issuer of Google"),
        ({"provider": "keycloak", "issuer": "https://sso.example.com"}, "/realms/REALM"),
        (AUTH0 | {"issuer": "https://other.auth0.com/"}, f"{DOMAIN}is not that of BEARER_ISSUER"),
        (
            KEYCLOAK | {"issuer": "https://sso.example.com/realms/other"},
            f"{TENANT}is not that of BEARER_ISSUER",
        ),
        # What has no use.
        ({"provider_domain": "x.example", "issuer": "https://a", "audience": "b"}, "has no use"),
        (GOOGLE | {"provider_domain": "google.com"}, f"{DOMAIN}has no use"),
        (HYDRA | {"provider_tenant": "x"}, f"{TENANT}has no use"),
        (AUTH0 | {"provider_tenant": "x"}, f"{TENANT}has no use"),
        (FIREBASE | {"provider_clients": "x"}, "BEARER_PROVIDER_CLIENTS: has no use"),
        (
            AUTH0 | {"provider_opaque": True, "provider_clients": "x"},
            "BEARER_PROVIDER_CLIENTS: contradicts BEARER_PROVIDER_OPAQUE",
        ),
        (COGNITO | {"provider_opaque": True}, "BEARER_PROVIDER_OPAQUE: has no use"),
        (ENTRA | PROOF, "BEARER_CLIENT_SECRET: has no use"),
        (ENTRA | {"introspection_url": "https://a/b"}, "BEARER_INTROSPECTION_URL: has no use"),
        (AUTH0 | {"introspection_url": "https://a/b"}, "BEARER_PROVIDER_OPAQUE=true asks its user"),
        (AUTH0 | {"client_auth": "private_key_jwt"}, "BEARER_CLIENT_AUTH: has no use"),
        (
            AUTH0 | {"provider_opaque": True, "introspection_signed": True},
            "BEARER_INTROSPECTION_SIGNED: has no use",
        ),
        (COGNITO | {"jwt_validation": "both"}, "BEARER_JWT_VALIDATION: has no use"),
        (
            AUTH0 | {"provider_opaque": True, "jwt_validation": "introspect"},
            "BEARER_JWT_VALIDATION: has no use",
        ),
        # What would take away what makes these tokens safe.
        *((one | {"hmac_secret": "x" * 32}, "BEARER_HMAC_SECRET: contradicts") for one in EVERY),
        *(
            (one | {"algorithms": "RS256,ES256"}, "BEARER_ALGORITHMS: contradicts")
            for one in (FIREBASE, COGNITO, ENTRA, GOOGLE)
        ),
        *(
            (
                {name: said for name, said in one.items() if name != "audience"}
                | {"allow_any_audience": True},
                "BEARER_ALLOW_ANY_AUDIENCE: contradicts",
            )
            for one in (FIREBASE, COGNITO, ENTRA, GOOGLE)
        ),
        *(
            (one | {"profile": "rfc9068"}, "BEARER_PROFILE: contradicts")
            for one in (FIREBASE, COGNITO, ENTRA, GOOGLE)
        ),
        (FIREBASE | {"audience": "another"}, "BEARER_AUDIENCE: must be the project"),
        (
            GOOGLE | {"provider_opaque": True, "introspection_audience": "any"},
            "BEARER_INTROSPECTION_AUDIENCE: contradicts",
        ),
        (
            AUTH0 | {"provider_opaque": True, "introspection_audience": "required"},
            "BEARER_INTROSPECTION_AUDIENCE: contradicts",
        ),
    ],
)
def test_mistakes(keywords: dict[str, Any], mistake: str) -> None:
    """What is wrong is said in words that help, and no secret is among them."""
    said = wrong(**keywords)
    assert any(mistake in one for one in said), said
    assert not any("x" * 32 in one or "s3cret" in one for one in said)


def test_one_mistake_is_said_once() -> None:
    """What depends on a provider that is not understood is not complained of besides."""
    assert len(wrong(**AUTH0 | {"provider_domain": "https://a.b/"})) == 1
    assert len(wrong(**FIREBASE | {"provider_tenant": "My Project"})) == 1
    assert len(wrong(**KEYCLOAK | {"provider_tenant": None})) == 1
