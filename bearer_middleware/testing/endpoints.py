"""The endpoints of the issuer: a request comes in, an answer goes out, no wire in sight."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from bearer_middleware.testing.clients import Clients, OAuthError
from bearer_middleware.testing.mint import LIFETIME, Mint
from bearer_middleware.testing.signing import ASSERTION_ALGORITHMS, sign
from bearer_middleware.testing.statuses import MEDIA_TYPE as STATUS_LIST_TYPE
from bearer_middleware.testing.statuses import PATH as STATUS_LIST_PATH
from bearer_middleware.testing.statuses import StatusLists

METADATA, JWKS, STATUS_LIST = "metadata", "jwks", "status_list"
TOKEN, INTROSPECTION, REVOCATION = "token", "introspection", "revocation"
ENDPOINTS = (METADATA, JWKS, TOKEN, INTROSPECTION, REVOCATION, STATUS_LIST)
_POSTED = {TOKEN: "/token", INTROSPECTION: "/introspect", REVOCATION: "/revoke"}
#: How a request for any other path stands in the log.
UNKNOWN = "unknown"

SIGNED_ANSWER = "application/token-introspection+jwt"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as every world delivers it. ``headers`` have lower-case names."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)

    def head(self) -> bytes:
        """The answer as HTTP/1.1 writes it, without its body."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = ""
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def answer(status: int, body: bytes, content_type: str, **headers: str) -> Answer:
    """Dress a body with the headers that every answer of a server has."""
    usual = {
        "date": formatdate(usegmt=True),
        "content-type": content_type,
        "content-length": str(len(body)),
        "cache-control": "no-store",
    }
    return Answer(status, {**usual, **headers}, body)


def json_answer(status: int, document: Mapping[str, Any], **headers: str) -> Answer:
    """Answer with a JSON document."""
    return answer(status, json.dumps(document).encode(), "application/json", **headers)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What the issuer answers. Which path means which endpoint follows from its URL."""

    mint: Mint
    clients: Clients
    statuses: StatusLists

    def named(self, path: str) -> str:
        """The endpoint behind a path."""
        root = self._root()
        if path.startswith(f"{root}{STATUS_LIST_PATH}/"):
            return STATUS_LIST
        names = {
            f"/.well-known/oauth-authorization-server{root}": METADATA,  # RFC 8414 section 3
            f"/.well-known/openid-configuration{root}": METADATA,
            f"{root}/.well-known/openid-configuration": METADATA,  # OpenID Connect Discovery 4
            f"/.well-known/ssf-configuration{root}": METADATA,  # Shared Signals Framework 7.2
            f"{root}/jwks": JWKS,
            **{root + path: endpoint for endpoint, path in _POSTED.items()},
        }
        return names.get(path, UNKNOWN)

    def answer(self, request: Request) -> Answer:
        """Ask the endpoint that the path names."""
        endpoint = self.named(request.path)
        if endpoint == UNKNOWN:
            return json_answer(404, {"error": "not_found"})
        reading = endpoint in (METADATA, JWKS, STATUS_LIST)
        allowed = ("GET", "HEAD") if reading else ("POST",)
        if request.method not in allowed:
            return json_answer(405, {"error": "invalid_request"}, allow=", ".join(allowed))
        if endpoint == STATUS_LIST:
            return self._status_list(request.path)
        if reading:
            return json_answer(200, self.metadata() if endpoint == METADATA else self.mint.jwks())
        try:
            return self._served(endpoint, request)
        except OAuthError as refusal:
            challenge = (
                {"www-authenticate": 'Basic realm="issuer"'} if refusal.status == 401 else {}
            )
            return json_answer(refusal.status, {"error": refusal.error}, **challenge)

    def metadata(self) -> dict[str, Any]:
        """The metadata document, of RFC 8414, OpenID Connect Discovery and SSF at once."""
        signing = [self.mint.signing_key().algorithm]
        document: dict[str, Any] = {
            "issuer": self.mint.url,
            "jwks_uri": f"{self._base()}/jwks",
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": signing,
            "introspection_signing_alg_values_supported": signing,
        }
        for endpoint, path in _POSTED.items():
            name = f"{endpoint}_endpoint"
            document[name] = self._base() + path
            document[f"{name}_auth_methods_supported"] = self.clients.methods
            document[f"{name}_auth_signing_alg_values_supported"] = list(ASSERTION_ALGORITHMS)
        return document

    def _served(self, endpoint: str, request: Request) -> Answer:
        form = _form(request.body)
        # RFC 7523 section 3: an assertion is meant for the server, often by its token endpoint.
        meant = {self.mint.url, *(self._base() + _POSTED[name] for name in (TOKEN, endpoint))}
        client_id = self.clients.authenticate(request.headers, form, meant)
        if endpoint == TOKEN:
            return self._grant(client_id, form)
        if "token" not in form:
            raise OAuthError(400, "invalid_request")
        if endpoint == REVOCATION:
            self.mint.revoke(form["token"])
            return json_answer(200, {})
        return self._introspection(client_id, form["token"], request.headers.get("accept", ""))

    def _grant(self, client_id: str, form: Mapping[str, str]) -> Answer:
        if form.get("grant_type") != "client_credentials":
            raise OAuthError(400, "unsupported_grant_type")
        scope = form.get("scope", "read")
        claims = {"sub": client_id, "client_id": client_id, "scope": scope}
        granted = {
            "access_token": self.mint.jwt(claims, {}, None, None),
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "scope": scope,
        }
        return json_answer(200, granted)

    def _introspection(self, client_id: str, token: str, accept: str) -> Answer:
        facts = self.mint.introspect(token)
        if SIGNED_ANSWER not in accept:
            return json_answer(200, facts)
        key = self.mint.signing_key()
        header = {"alg": key.algorithm, "kid": key.kid, "typ": "token-introspection+jwt"}
        claims = {
            "iss": self.mint.url,
            "aud": client_id,
            "iat": int(time.time()),
            "token_introspection": facts,
        }
        return answer(200, sign(header, claims, key.algorithm, key.private).encode(), SIGNED_ANSWER)

    def _status_list(self, path: str) -> Answer:
        token = self.statuses.token(path)
        if token is None:
            return json_answer(404, {"error": "not_found"})
        return answer(200, token.encode(), STATUS_LIST_TYPE)

    def _base(self) -> str:
        return self.mint.url.rstrip("/")

    def _root(self) -> str:
        return urlsplit(self._base()).path


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True)
    except ValueError:
        raise OAuthError(400, "invalid_request") from None
    form = dict(pairs)
    if len(form) < len(pairs):  # RFC 6749 section 3.2: no parameter more than once
        raise OAuthError(400, "invalid_request")
    return form
