"""The others: verifiers and middlewares, each set up as its manual says.

A verifier takes the text of a token and returns something true, or raises or returns
``None``. Whoever accepts the forged token is no peer.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

from tokens import Material

Verifier = Callable[[str], Any]


def pyjwt(material: Material) -> Verifier:
    """PyJWT, the key chosen by its ``kid``."""
    import jwt

    keys = {material.jwk["kid"]: jwt.PyJWK(material.jwk)}
    allowed, audience = [material.algorithm], material.issuer.audience
    issuer = material.issuer.url

    def verify(token: str) -> Any:
        key = keys[jwt.get_unverified_header(token)["kid"]]
        return jwt.decode(token, key, algorithms=allowed, audience=audience, issuer=issuer)

    return verify


def joserfc(material: Material) -> Verifier:
    from joserfc import jwt
    from joserfc.jwk import KeySet

    keys = KeySet.import_key_set({"keys": [material.jwk]})
    allowed = [material.algorithm]
    rules = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": material.issuer.url},
        aud={"essential": True, "value": material.issuer.audience},
        exp={"essential": True},
    )

    def verify(token: str) -> Any:
        decoded = jwt.decode(token, keys, algorithms=allowed)
        rules.validate(decoded.claims)
        return decoded

    return verify


def authlib(material: Material) -> Verifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from authlib.jose import JsonWebKey, JsonWebToken
    keys = JsonWebKey.import_key_set({"keys": [material.jwk]})
    reader = JsonWebToken([material.algorithm])
    rules = {
        "iss": {"essential": True, "value": material.issuer.url},
        "aud": {"essential": True, "value": material.issuer.audience},
        "exp": {"essential": True},
    }

    def verify(token: str) -> Any:
        claims = reader.decode(token, keys, claims_options=rules)
        claims.validate()
        return claims

    return verify


def fastmcp(material: Material) -> Verifier:
    verifier = fastmcp_verifier(material)

    async def verify(token: str) -> Any:
        return await verifier.verify_token(token)

    return verify


def fastmcp_verifier(material: Material) -> Any:
    from fastmcp.server.auth.providers.jwt import JWTVerifier

    return JWTVerifier(
        public_key=material.pem.decode(),
        issuer=material.issuer.url,
        audience=material.issuer.audience,
        algorithm=material.algorithm,
    )


VERIFIERS: dict[str, Callable[[Material], Verifier]] = {
    "PyJWT": pyjwt,
    "joserfc": joserfc,
    "Authlib": authlib,
    "fastmcp": fastmcp,
}


async def verifiers(material: Material) -> dict[str, Verifier]:
    """All that can do the algorithm; each has accepted a good token and refused the forged one."""
    able = {}
    for name, make in VERIFIERS.items():
        try:
            verify = make(material)
        except ValueError as unable:  # fastmcp knows EdDSA by one of its names only
            print(f"{name} does not do {material.algorithm}: {unable}")
            continue
        if not await accepts(verify, material.tokens[0]):
            raise RuntimeError(f"{name} refuses a good token")
        if await accepts(verify, material.forged):
            raise RuntimeError(f"{name} accepts a forged token")
        able[name] = verify
    return able


async def accepts(verify: Verifier, token: bytes) -> bool:
    try:
        result = verify(token.decode())
        return bool(await result if inspect.isawaitable(result) else result)
    except Exception:  # noqa: BLE001 - each has its own
        return False


def starlette_with_pyjwt(app: Any, material: Material) -> Any:
    """Starlette's AuthenticationMiddleware with a PyJWT backend, around any ASGI app."""
    from starlette.authentication import (
        AuthCredentials,
        AuthenticationBackend,
        AuthenticationError,
        SimpleUser,
    )
    from starlette.middleware.authentication import AuthenticationMiddleware

    verify = pyjwt(material)

    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            scheme, _, token = conn.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                return None
            try:
                claims = verify(token)
            except Exception as error:
                raise AuthenticationError("invalid token") from error
            return AuthCredentials(claims["scope"].split()), SimpleUser(claims["sub"])

    return AuthenticationMiddleware(app, backend=Backend())


def mcp_with_fastmcp(app: Any, material: Material) -> Any:
    """The bearer middlewares of the MCP SDK with fastmcp's JWTVerifier."""
    from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
    from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
    from starlette.middleware.authentication import AuthenticationMiddleware

    backend = BearerAuthBackend(fastmcp_verifier(material))
    inner = AuthContextMiddleware(RequireAuthMiddleware(app, required_scopes=[]))
    return AuthenticationMiddleware(inner, backend=backend)


def flask_app() -> Any:
    from flask import Flask

    app = Flask("benchmark")
    app.get("/orders")(lambda: "ok")
    return app


def flask_with_jwt_extended(material: Material) -> Any:
    from flask_jwt_extended import JWTManager, jwt_required

    app = flask_app()
    app.view_functions["<lambda>"] = jwt_required()(app.view_functions["<lambda>"])
    app.config.update(
        JWT_ALGORITHM=material.algorithm,
        JWT_PUBLIC_KEY=material.pem,
        JWT_DECODE_AUDIENCE=material.issuer.audience,
        JWT_DECODE_ISSUER=material.issuer.url,
    )
    JWTManager(app)
    return app
