"""One good token of each provider, as its documentation has them, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DIRECTORY = "1111abcd-2222-3333-4444-555555555555"
STRANGE_DIRECTORY = "99999999-2222-3333-4444-555555555555"
USER = "aaaaaaaa-2222-3333-4444-555555555555"
POOL = "eu-west-1_AbC123xyz"
PROJECT = "312909075212468632"
ROLES = f"urn:zitadel:iam:org:project:{PROJECT}:roles"
CLIENT = "spa-client"


@dataclass(frozen=True)
class Golden:
    """Settings, the claims of a good token, what its identity says, and what spoils it:
    by a name, other claims (or ``headers``) and the reason of the refusal.
    """

    settings: dict[str, Any]
    claims: dict[str, Any]
    identity: dict[str, Any]
    hostile: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)


def _everywhere(issuer: str) -> dict[str, tuple[dict[str, Any], str]]:
    """What is tried at every provider."""
    return {
        "another issuer": ({"iss": issuer}, "unknown_issuer"),
        "expired": ({"exp": 1_000_000_000}, "expired"),
        "another audience": ({"aud": "https://others.example"}, "wrong_audience"),
        "an algorithm of another kind": ({"algorithm": "PS256"}, "unsupported_alg"),
    }


AUTH0 = "https://dev.eu.auth0.com/"
_AUTH0_CLAIMS = {
    "iss": AUTH0,
    "sub": "auth0|alice",
    "aud": ["https://orders", f"{AUTH0}userinfo"],
    "azp": CLIENT,
    "scope": "openid read:orders",
    "permissions": ["read:orders", "write:orders"],
    "org_id": "org_1",
    "https://example.com/roles": ["editor"],
}
ENTRA2 = f"https://login.microsoftonline.com/{DIRECTORY}/v2.0"
ENTRA1 = f"https://sts.windows.net/{DIRECTORY}/"
_ENTRA = {"provider": "entra", "provider_tenant": DIRECTORY, "audience": "api-id,api://api-id"}
_ENTRA_CLAIMS = {
    "iss": ENTRA2,
    "ver": "2.0",
    "tid": DIRECTORY,
    "oid": USER,
    "sub": "pairwise",
    "aud": "api-id",
    "azp": CLIENT,
    "scp": "read write",
    "roles": ["Task.Admin"],
    "wids": ["b79fbf4d-3ef9-4689-8143-76b194e85509"],
}
_ENTRA_HOSTILE = {
    "a tid of another directory": ({"tid": STRANGE_DIRECTORY}, "unknown_issuer"),
    "no tid": ({"tid": None}, "missing_claim"),
    "of Graph": ({"aud": "00000003-0000-0000-c000-000000000000"}, "wrong_audience"),
    "the iss of another directory": (
        {"iss": f"https://login.microsoftonline.com/{STRANGE_DIRECTORY}/v2.0"},
        "unknown_issuer",
    ),
    "the template as iss": (
        {"iss": "https://login.microsoftonline.com/{tenantid}/v2.0"},
        "unknown_issuer",
    ),
    "no kid": ({"headers": {"kid": None}}, "unknown_kid"),
    "an ID token": ({"azp": None, "appid": None, "scp": None}, "not_access_token"),
    "an application that was granted nothing": ({"scp": None, "roles": None}, "missing_claim"),
    "an application that was granted an empty list": (
        {"scp": None, "roles": []},
        "missing_claim",
    ),
}
COGNITO = f"https://cognito-idp.eu-west-1.amazonaws.com/{POOL}"
COGNITO_NEWER = f"https://issuer-cognito-idp.eu-west-1.amazonaws.com/{POOL}"
_COGNITO_CLAIMS = {
    "iss": COGNITO,
    "sub": USER,
    "client_id": CLIENT,
    "token_use": "access",
    "scope": "orders/read",
    "username": "alice",
    "cognito:groups": ["editors"],
}
_COGNITO_IDENTITY = {
    "subject": USER,
    "client_id": CLIENT,
    "scopes": {"orders/read"},
    "roles": {"editors"},
    "tenant": None,
    "is_client": False,
    "issuer": COGNITO,
}
_COGNITO_HOSTILE = {
    "an ID token": ({"token_use": "id", "aud": CLIENT}, "not_access_token"),
    "no token_use": ({"token_use": None}, "not_access_token"),
    "another client": ({"client_id": "another"}, "wrong_audience"),
    "another client in azp": ({"client_id": None, "azp": CLIENT}, "wrong_audience"),
    "another pool": (
        {"iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_other"},
        "unknown_issuer",
    ),
}
_COGNITO = {"provider": "cognito", "provider_tenant": POOL, "audience": CLIENT}
KEYCLOAK = "https://sso.example.com/realms/shop"
FIREBASE = "https://securetoken.google.com/my-project-1"
_GOOGLE_CLAIMS = {
    "iss": "https://accounts.google.com",
    "sub": "1102",
    "aud": "web.apps.googleusercontent.com",
    "azp": "android.apps.googleusercontent.com",
    "email": "alice@example.com",
    "email_verified": True,
    "hd": "example.com",
    "nonce": "n",
    "at_hash": "h",
}
_GOOGLE = {"provider": "google", "audience": "web.apps.googleusercontent.com"}
_GOOGLE_IDENTITY = {
    "subject": "1102",
    "client_id": "android.apps.googleusercontent.com",
    "scopes": set(),
    "roles": set(),
    "tenant": "example.com",
    "is_client": False,
    "issuer": "https://accounts.google.com",
}
_GOOGLE_HOSTILE = {
    "of another application": ({"aud": "evil.apps.googleusercontent.com"}, "wrong_audience"),
    "an issuer that begins so": ({"iss": "accounts.google.com.evil"}, "unknown_issuer"),
    "an issuer over http": ({"iss": "http://accounts.google.com"}, "unknown_issuer"),
    "no audience": ({"aud": None}, "wrong_audience"),
}

GOLDEN: dict[str, Golden] = {
    "auth0": Golden(
        {
            "provider": "auth0",
            "provider_domain": "dev.eu.auth0.com",
            "audience": "https://orders",
            "provider_roles": "https://example.com/roles",
        },
        _AUTH0_CLAIMS,
        {
            "subject": "auth0|alice",
            "client_id": CLIENT,
            "scopes": {"openid", "read:orders"},
            "permissions": {"read:orders", "write:orders"},
            "roles": {"editor"},
            "tenant": "org_1",
            "is_client": False,
            "issuer": AUTH0,
        },
        {
            "no slash after iss": ({"iss": AUTH0.rstrip("/")}, "unknown_issuer"),
            "for userinfo alone": ({"aud": f"{AUTH0}userinfo"}, "wrong_audience"),
            "an ID token": ({"nonce": "n", "at_hash": "h"}, "not_access_token"),
            "an ID token without hash": ({"azp": None, "nonce": "n"}, "not_access_token"),
        },
    ),
    "auth0, a machine, rfc9068": Golden(
        {"provider": "auth0", "issuer": AUTH0, "audience": "https://orders"},
        {
            "iss": AUTH0,
            "sub": f"{CLIENT}@clients",
            "aud": "https://orders",
            "client_id": CLIENT,
            "gty": "client-credentials",
            "scope": "read:orders",
        },
        {
            "subject": f"{CLIENT}@clients",
            "client_id": CLIENT,
            "scopes": {"read:orders"},
            "roles": set(),
            "tenant": None,
            "is_client": True,
        },
        {"no sub": ({"sub": None}, "missing_claim")},
    ),
    "okta": Golden(
        {"provider": "okta", "provider_domain": "dev.okta.com"},
        {
            "iss": "https://dev.okta.com/oauth2/default",
            "sub": "alice@example.com",
            "uid": "00u1",
            "cid": CLIENT,
            "aud": "api://default",
            "scp": ["openid", "read"],
            "groups": ["Everyone", "Editors"],
            "ver": 1,
        },
        {
            "subject": "00u1",
            "client_id": CLIENT,
            "scopes": {"openid", "read"},
            "roles": {"Everyone", "Editors"},
            "tenant": None,
            "is_client": False,
        },
        {
            "of the organization's server": ({"iss": "https://dev.okta.com"}, "unknown_issuer"),
            "no cid": ({"cid": None}, "missing_claim"),
            "scp of another shape": ({"scp": {"read": True}}, "malformed_claim"),
        },
    ),
    "okta, a machine": Golden(
        {"provider": "okta", "provider_domain": "dev.okta.com", "provider_tenant": "aus1"}
        | {"audience": "api://orders"},
        {
            "iss": "https://dev.okta.com/oauth2/aus1",
            "sub": CLIENT,
            "cid": CLIENT,
            "aud": "api://orders",
            "scp": ["write"],
        },
        {
            "subject": CLIENT,
            "client_id": CLIENT,
            "scopes": {"write"},
            "roles": set(),
            "tenant": None,
            "is_client": True,
        },
    ),
    "firebase": Golden(
        {"provider": "firebase", "provider_tenant": "my-project-1"},
        {
            "iss": FIREBASE,
            "aud": "my-project-1",
            "sub": "uid1",
            "user_id": "uid1",
            "auth_time": 1_700_000_000,
            "roles": ["editor"],
            "firebase": {"sign_in_provider": "password", "tenant": "acme-1"},
        },
        {
            "subject": "uid1",
            "client_id": None,
            "scopes": set(),
            "roles": {"editor"},
            "tenant": "acme-1",
            "is_client": False,
            "auth_time": 1_700_000_000,
        },
        {
            "of another project": (
                {"iss": "https://securetoken.google.com/others", "aud": "others"},
                "unknown_issuer",
            ),
            "the audience of another project": ({"aud": "others-1"}, "wrong_audience"),
            "no sub": ({"sub": None}, "missing_claim"),
            "an empty sub": ({"sub": ""}, "missing_claim"),
            "a long sub": ({"sub": "a" * 129}, "malformed_claim"),
            "authenticated in the future": ({"auth_time": 9_999_999_999}, "not_yet_valid"),
            "never authenticated": ({"auth_time": None}, "missing_claim"),
            "authenticated by text": ({"auth_time": "1"}, "malformed_claim"),
            "no kid": ({"headers": {"kid": None}}, "unknown_kid"),
            "a custom token": (
                {
                    "iss": "sa@my-project-1.iam.gserviceaccount.com",
                    "sub": "sa@my-project-1.iam.gserviceaccount.com",
                    "aud": "https://identitytoolkit.googleapis.com/google.identity."
                    "identitytoolkit.v1.IdentityToolkit",
                },
                "unknown_issuer",
            ),
            "a custom token with our iss": (
                {
                    "aud": "https://identitytoolkit.googleapis.com/google.identity."
                    "identitytoolkit.v1.IdentityToolkit"
                },
                "wrong_audience",
            ),
        },
    ),
    "cognito": Golden(_COGNITO, _COGNITO_CLAIMS, _COGNITO_IDENTITY, _COGNITO_HOSTILE),
    "cognito, the newer issuer": Golden(
        _COGNITO, {**_COGNITO_CLAIMS, "iss": COGNITO_NEWER}, _COGNITO_IDENTITY
    ),
    "cognito, a machine bound to a resource": Golden(
        {**_COGNITO, "audience": f"{CLIENT},https://orders"},
        {
            "iss": COGNITO,
            "sub": CLIENT,
            "client_id": CLIENT,
            "token_use": "access",
            "aud": "https://orders",
            "scope": "orders/write",
        },
        {
            "subject": CLIENT,
            "client_id": CLIENT,
            "scopes": {"orders/write"},
            "roles": set(),
            "tenant": None,
            "is_client": True,
            "audience": ("https://orders",),
        },
        {"bound to another resource": ({"aud": "https://others"}, "wrong_audience")},
    ),
    "entra, version 2": Golden(
        _ENTRA,
        _ENTRA_CLAIMS,
        {
            "subject": f"{USER}.{DIRECTORY}",
            "client_id": CLIENT,
            "scopes": {"read", "write"},
            "roles": {"Task.Admin"},
            "tenant": DIRECTORY,
            "is_client": False,
            "issuer": ENTRA2,
        },
        {**_ENTRA_HOSTILE, "ver of the other issuer": ({"ver": "1.0"}, "unknown_issuer")},
    ),
    "entra, version 1": Golden(
        _ENTRA,
        {
            **_ENTRA_CLAIMS,
            "iss": ENTRA1,
            "ver": "1.0",
            "aud": "api://api-id",
            "azp": None,
            "appid": CLIENT,
            "unique_name": "alice@example.com",
        },
        {
            "subject": f"{USER}.{DIRECTORY}",
            "client_id": CLIENT,
            "scopes": {"read", "write"},
            "roles": {"Task.Admin"},
            "tenant": DIRECTORY,
            "is_client": False,
            "issuer": ENTRA2,
        },
        {**_ENTRA_HOSTILE, "ver of the other issuer": ({"ver": "2.0"}, "unknown_issuer")},
    ),
    "entra, an application": Golden(
        _ENTRA,
        {**_ENTRA_CLAIMS, "scp": None, "sub": USER, "idtyp": "app"},
        {
            "subject": f"{USER}.{DIRECTORY}",
            "client_id": CLIENT,
            "scopes": set(),
            "roles": {"Task.Admin"},
            "tenant": DIRECTORY,
            "is_client": True,
        },
    ),
    "google": Golden(_GOOGLE, _GOOGLE_CLAIMS, _GOOGLE_IDENTITY, _GOOGLE_HOSTILE),
    "google, the other spelling": Golden(
        _GOOGLE, {**_GOOGLE_CLAIMS, "iss": "accounts.google.com"}, _GOOGLE_IDENTITY, _GOOGLE_HOSTILE
    ),
    "google, a service account": Golden(
        {"provider": "google", "audience": "https://orders.example.com"},
        {
            **_GOOGLE_CLAIMS,
            "aud": "https://orders.example.com",
            "azp": "sa@project.iam.gserviceaccount.com",
            "email": "sa@project.iam.gserviceaccount.com",
            "hd": None,
            "nonce": None,
            "at_hash": None,
        },
        {
            "subject": "1102",
            "client_id": "sa@project.iam.gserviceaccount.com",
            "scopes": set(),
            "roles": set(),
            "tenant": None,
            "is_client": True,
        },
    ),
    "keycloak": Golden(
        {
            "provider": "keycloak",
            "provider_domain": "sso.example.com",
            "provider_tenant": "shop",
            "provider_clients": CLIENT,
            "audience": "orders",
            "algorithms": "RS256",
        },
        {
            "iss": KEYCLOAK,
            "sub": USER,
            "aud": ["orders", "account"],
            "azp": CLIENT,
            "typ": "Bearer",
            "sid": "s1",
            "acr": "1",
            "scope": "openid profile",
            "preferred_username": "alice",
            "realm_access": {"roles": ["offline_access", "editor"]},
            "resource_access": {
                "orders": {"roles": ["approve"]},
                "account": {"roles": ["manage-account"]},
            },
        },
        {
            "subject": USER,
            "client_id": CLIENT,
            "scopes": {"openid", "profile"},
            "roles": {"offline_access", "editor", "approve"},
            "tenant": None,
            "is_client": False,
            "acr": "1",
        },
        {
            "another client": ({"azp": "another"}, "wrong_audience"),
            "no client": ({"azp": None}, "wrong_audience"),
            "only account": ({"aud": "account"}, "wrong_audience"),
            "a refresh token": ({"typ": "Refresh"}, "not_access_token"),
            "an ID token": ({"typ": "ID"}, "not_access_token"),
            "no typ": ({"typ": None}, "not_access_token"),
            "a user without sub": ({"sub": None}, "missing_claim"),
            "a user with an empty sub": ({"sub": ""}, "missing_claim"),
            "another realm": ({"iss": "https://sso.example.com/realms/other"}, "unknown_issuer"),
        },
    ),
    "keycloak, a machine": Golden(
        {"provider": "keycloak", "issuer": KEYCLOAK, "audience": "orders", "algorithms": "RS256"},
        {
            "iss": KEYCLOAK,
            "sub": USER,
            "aud": "orders",
            "azp": "Batch",
            "client_id": "Batch",
            "typ": "Bearer",
            "preferred_username": "service-account-batch",
        },
        {
            "subject": USER,
            "client_id": "Batch",
            "scopes": set(),
            "roles": set(),
            "tenant": None,
            "is_client": True,
        },
    ),
    "zitadel": Golden(
        {
            "provider": "zitadel",
            "provider_domain": "acme.zitadel.cloud",
            "provider_tenant": PROJECT,
            "algorithms": "RS256",
        },
        {
            "iss": "https://acme.zitadel.cloud",
            "sub": "1623",
            "aud": [CLIENT, PROJECT],
            "client_id": CLIENT,
            "scope": "openid",
            ROLES: {"editor": {"2034": "acme.example"}, "viewer": {"2034": "acme.example"}},
            "urn:zitadel:iam:org:project:777:roles": {"admin": {"2034": "acme.example"}},
            "urn:zitadel:iam:user:resourceowner:id": "2034",
        },
        {
            "subject": "1623",
            "client_id": CLIENT,
            "scopes": {"openid"},
            "roles": {"editor", "viewer"},
            "tenant": "2034",
            "is_client": False,
        },
        {
            "of another project": ({"aud": [CLIENT, "777"]}, "wrong_audience"),
            "an ID token without nonce": ({"at_hash": "h"}, "not_access_token"),
            "an ID token without at_hash": ({"nonce": "n"}, "not_access_token"),
            "an ID token without either": ({"auth_time": 1_700_000_000}, "not_access_token"),
            "no audience": ({"aud": None}, "wrong_audience"),
            "no sub": ({"sub": None}, "missing_claim"),
        },
    ),
    "hydra": Golden(
        {
            "provider": "hydra",
            "issuer": "https://hydra.example.com/",
            "audience": "orders",
            "algorithms": "RS256",
        },
        {
            "iss": "https://hydra.example.com/",
            "sub": "alice",
            "client_id": CLIENT,
            "aud": ["orders"],
            "scp": ["read", "offline_access"],
            "jti": "j1",
            "ext": {"roles": ["editor"], "tenant": "acme", "permissions": ["orders:read"]},
        },
        {
            "subject": "alice",
            "client_id": CLIENT,
            "scopes": {"read", "offline_access"},
            "roles": {"editor"},
            "permissions": {"orders:read"},
            "tenant": "acme",
            "is_client": False,
        },
        {
            "an empty audience": ({"aud": []}, "wrong_audience"),
            "no slash after iss": ({"iss": "https://hydra.example.com"}, "unknown_issuer"),
            "another use": ({"token_use": "anything"}, "not_access_token"),
        },
    ),
}
HOSTILE = [
    (name, spoiled, change, reason)
    for name, golden in GOLDEN.items()
    for spoiled, (change, reason) in (_everywhere("https://evil.example/") | golden.hostile).items()
]
