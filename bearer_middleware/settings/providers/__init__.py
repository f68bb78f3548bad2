"""Presets: what is known of the products that authorization servers are made with."""

from __future__ import annotations

from bearer_middleware.settings.providers.auth0 import AUTH0
from bearer_middleware.settings.providers.cognito import COGNITO
from bearer_middleware.settings.providers.entra import ENTRA
from bearer_middleware.settings.providers.firebase import FIREBASE
from bearer_middleware.settings.providers.google import GOOGLE
from bearer_middleware.settings.providers.hydra import HYDRA
from bearer_middleware.settings.providers.keycloak import KEYCLOAK
from bearer_middleware.settings.providers.okta import OKTA
from bearer_middleware.settings.providers.provider import Provider
from bearer_middleware.settings.providers.zitadel import ZITADEL

#: By the word of ``BEARER_PROVIDER``.
PROVIDERS: dict[str, Provider] = {
    "auth0": AUTH0,
    "okta": OKTA,
    "firebase": FIREBASE,
    "cognito": COGNITO,
    "entra": ENTRA,
    "keycloak": KEYCLOAK,
    "zitadel": ZITADEL,
    "hydra": HYDRA,
    "google": GOOGLE,
}
