"""Against npm's `oidc-provider`, an OpenID certified server that nobody here wrote."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from bearer_middleware import BearerMiddleware, WSGIBearerMiddleware

HERE = Path(__file__).parent
pytestmark = pytest.mark.needs("node", "tests/interop/node_modules/oidc-provider")

MACHINE = ("machine", "the-secret-of-the-machine-that-calls")
WEIRD_ID = "rs:orders & co%"
WEIRD_SECRET = "s:p&c %+/?=1 long enough for HS256 too"

Settings = dict[str, Any]
Answer = tuple[int, dict[str, Any]]


class Provider:
    """The running server, as its clients see it."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.http = httpx.Client(base_url=issuer, auth=MACHINE)

    def token(self, api: str) -> str:
        form = {"grant_type": "client_credentials", "resource": api, "scope": "read write"}
        return self.http.post("/token", data=form).raise_for_status().json()["access_token"]

    def refresh_token(self) -> str:
        return self.http.post("/mint/refresh-token").raise_for_status().text

    def revoke(self, token: str) -> None:
        self.http.post("/token/revocation", data={"token": token}).raise_for_status()


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key by which an API proves itself."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path_factory.mktemp("interop") / "key.pem"
    path.write_bytes(pem)
    return path


@pytest.fixture(scope="module")
def provider(key_file: Path) -> Iterator[Provider]:
    """The server, started once for all the tests here."""
    command = ["node", str(HERE / "provider.mjs"), json.dumps(_clients(key_file))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        provider = Provider(json.loads(process.stdout.readline())["issuer"])
        with provider.http:
            yield provider
        process.stdin.close()


def _clients(key_file: Path) -> list[Settings]:
    """Who calls, and the API under each way to prove itself."""
    key = serialization.load_pem_private_key(key_file.read_bytes(), None).public_key()
    jwk = ECAlgorithm.to_jwk(key, as_dict=True) | {"kid": "orders-key"}
    secret = {"client_secret": WEIRD_SECRET}
    basic = {"token_endpoint_auth_method": "client_secret_basic"}
    post = {"token_endpoint_auth_method": "client_secret_post"}
    hmac = {"token_endpoint_auth_method": "client_secret_jwt"}
    asymmetric = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [jwk]}}
    calls = {"client_secret": MACHINE[1], "grant_types": ["client_credentials"]}
    nothing = {"grant_types": [], "response_types": [], "redirect_uris": []}
    clients = {
        MACHINE[0]: calls | {"scope": "read write"},
        WEIRD_ID: secret | basic,
        "rs-post": secret | post,
        "rs-hmac": secret | hmac,
        "rs-jwt": asymmetric,
        "rs-signed": secret | basic | {"introspection_signed_response_alg": "ES256"},
    }
    return [nothing | {"client_id": name} | client for name, client in clients.items()]


@pytest.fixture
def credentials(key_file: Path) -> Callable[[str], Settings]:
    """The settings for each way to prove ourselves."""

    def credentials(auth: str) -> Settings:
        ids = {"client_secret_basic": WEIRD_ID, "client_secret_post": "rs-post"}
        ids |= {"client_secret_jwt": "rs-hmac", "private_key_jwt": "rs-jwt"}
        settings: Settings = {"client_id": ids[auth], "client_auth": auth}
        if auth == "private_key_jwt":
            return settings | {"client_key_file": str(key_file), "client_key_id": "orders-key"}
        return settings | {"client_secret": WEIRD_SECRET}

    return credentials


BASIC = {"client_id": WEIRD_ID, "client_secret": WEIRD_SECRET}

API = Callable[[str], Answer]


@pytest.fixture(params=["asgi", "wsgi"])
def protect(request: pytest.FixtureRequest, provider: Provider) -> Iterator[Callable[..., API]]:
    """An API in either world: `protect(audience=..., **settings)(token)` is (status, body)."""
    with ExitStack() as stack:
        world = {"asgi": _in_asgi, "wsgi": _in_wsgi}[request.param]
        common = {"issuer": provider.issuer, "allow_insecure_http": True}
        yield lambda **settings: world(stack, common | settings)


def _in_asgi(stack: ExitStack, settings: Settings) -> API:
    app = BearerMiddleware(_whoami_asgi, **settings)
    loop = stack.enter_context(asyncio.Runner())
    stack.callback(lambda: loop.run(app.server.transport.aclose()))

    async def ask(token: str) -> Answer:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            answer = await client.get("http://api/", headers=_headers(token))
            return answer.status_code, answer.json()

    return lambda token: loop.run(ask(token))


def _in_wsgi(stack: ExitStack, settings: Settings) -> API:
    app = WSGIBearerMiddleware(_whoami_wsgi, **settings)
    stack.callback(app.server.transport.close)
    client = stack.enter_context(httpx.Client(transport=httpx.WSGITransport(app)))

    def ask(token: str) -> Answer:
        answer = client.get("http://api/", headers=_headers(token))
        return answer.status_code, answer.json()

    return ask


def _describe(identity: Any) -> bytes:
    names = ("subject", "issuer", "client_id", "kind", "is_client")
    seen = {name: getattr(identity, name) for name in names}
    return json.dumps(seen | {"scopes": sorted(identity.scopes)}).encode()


async def _whoami_asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    body = _describe(scope["bearer_middleware.identity"])
    await send({"type": "http.response.body", "body": body})


def _whoami_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [_describe(environ["bearer_middleware.identity"])]


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _machine(provider: Provider, kind: str) -> Settings:
    """The identity of the machine, whichever token it shows."""
    return {
        "subject": "machine",
        "issuer": provider.issuer,
        "client_id": "machine",
        "kind": kind,
        "is_client": True,
        "scopes": ["read", "write"],
    }


@pytest.mark.parametrize("algorithm", ["rs256", "es256", "eddsa", "ed25519"])
def test_a_jwt_is_verified_by_discovery_alone(provider, protect, algorithm):
    """Issuer and audience are all that must be set for a JWT of any algorithm."""
    api = f"urn:orders:{algorithm}"
    assert protect(audience=api)(provider.token(api)) == (200, _machine(provider, "jwt"))


def test_an_rsa_key_without_alg_takes_the_first_rsa_algorithm_configured(provider, protect):
    """Its keys carry no `alg`: PS256 is accepted where it is asked for, and only there."""
    token = provider.token("urn:orders:ps256")
    assert protect(audience="urn:orders:ps256", algorithms="PS256")(token)[0] == 200
    assert protect(audience="urn:orders:ps256")(token)[0] == 401


def test_the_strict_profile_accepts_its_tokens(provider, protect):
    """What it signs is RFC 9068 to the letter."""
    token = provider.token("urn:orders:es256")
    assert protect(audience="urn:orders:es256", profile="rfc9068")(token)[0] == 200


@pytest.mark.parametrize(
    "auth", ["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt"]
)
def test_an_opaque_token_is_introspected(provider, protect, credentials, auth):
    """Each way to prove ourselves is understood; an id and secret with `:`, `&` and `%` too."""
    ask = protect(audience="urn:orders:opaque", **credentials(auth))
    assert ask(provider.token("urn:orders:opaque")) == (200, _machine(provider, "opaque"))


def test_a_signed_introspection_answer_is_believed(provider, protect):
    """RFC 9701: the answer is a JWT of the issuer, for us."""
    settings = BASIC | {"client_id": "rs-signed", "introspection_signed": True}
    ask = protect(audience="urn:orders:opaque", **settings)
    assert ask(provider.token("urn:orders:opaque")) == (200, _machine(provider, "opaque"))


def test_a_signed_answer_is_verified_like_a_token(provider, protect):
    """Signed in an algorithm that is not allowed, it leaves us not knowing: 503."""
    settings = BASIC | {"client_id": "rs-signed", "introspection_signed": True}
    ask = protect(audience="urn:orders:opaque", algorithms="RS256", **settings)
    assert ask(provider.token("urn:orders:opaque"))[0] == 503


def test_a_revoked_token_is_refused_at_once_when_nothing_is_kept(provider, protect):
    """With a TTL of 0 the next request asks again."""
    token = provider.token("urn:orders:opaque")
    ask = protect(audience="urn:orders:opaque", introspection_ttl=0, **BASIC)
    assert ask(token)[0] == 200
    provider.revoke(token)
    assert ask(token)[0] == 401


def test_expired_tokens_are_refused(provider, protect):
    """A token that lived one second is refused in the next but one, JWT or opaque."""
    apis = ["urn:orders:rs256:brief", "urn:orders:opaque:brief"]
    tokens = [provider.token(api) for api in apis]
    ask = protect(audience=apis, leeway=0, **BASIC)
    time.sleep(2)
    assert [ask(token)[0] for token in tokens] == [401, 401]


@pytest.mark.parametrize("api", ["urn:orders:rs256", "urn:orders:opaque"])
def test_a_token_for_another_api_is_refused(provider, protect, api):
    """It is good, but not for us."""
    assert protect(audience="urn:billing", **BASIC)(provider.token(api))[0] == 401


def test_an_unknown_opaque_token_is_refused(protect):
    """The server answers `active: false`."""
    assert protect(audience="urn:orders:opaque", **BASIC)("made-up")[0] == 401


def test_a_refresh_token_is_refused(provider, protect):
    """The server calls it active, without audience or token type."""
    assert protect(audience="urn:orders:opaque", **BASIC)(provider.refresh_token())[0] == 401


def test_wrong_credentials_of_ours_are_not_the_callers_fault(provider, protect):
    """The server refuses to tell us: 503, and the token may be good."""
    settings = BASIC | {"client_secret": "mistyped"}
    ask = protect(audience="urn:orders:opaque", **settings)
    assert ask(provider.token("urn:orders:opaque"))[0] == 503


def test_a_jwt_it_will_not_introspect_is_not_let_in(provider, protect):
    """It answers 400 `unsupported_token_type`, which is not `inactive`: 503."""
    ask = protect(audience="urn:orders:rs256", jwt_validation="introspect", **BASIC)
    assert ask(provider.token("urn:orders:rs256"))[0] == 503
