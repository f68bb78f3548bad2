"""A provider without a network: its key set and its other endpoints at the addresses they have."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import anyio
import pytest

from bearer_middleware import Identity, ResourceServer, Settings
from bearer_middleware.errors import Refused
from bearer_middleware.flow.drivers import arun, run
from bearer_middleware.testing import Issuer

#: Status and members of an answer, by the form of the request and its Authorization.
Answering = Callable[[dict[str, str], str], tuple[int, Any]]


class Network:
    """Answers at exact addresses, and nowhere else; of httpx's own kind of transport."""

    def __init__(self) -> None:
        self.at: dict[str, Answering] = {}
        #: Method and address of every request.
        self.asked: list[tuple[str, str]] = []

    def publish(self, url: str, document: Any) -> None:
        """A document for whoever asks."""
        self.at[url] = lambda form, authorization: (200, document)

    def handle_request(self, request: Any) -> Any:
        return self._respond(request, request.read())

    async def handle_async_request(self, request: Any) -> Any:
        return self._respond(request, await request.aread())

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Here neither."""

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        """As ``close``."""

    async def __aenter__(self) -> Network:
        return self

    async def __aexit__(self, *_: object) -> None:
        """As ``aclose``."""

    def _respond(self, request: Any, body: bytes) -> Any:
        url = str(request.url)
        self.asked.append((request.method, url))
        library = sys.modules[type(request).__module__.partition(".")[0]]
        nothing: Answering = lambda form, authorization: (404, {})  # noqa: E731
        answering = self.at.get(url, nothing)
        form = dict(parse_qsl(body.decode()))
        status, document = answering(form, request.headers.get("authorization", ""))
        content = json.dumps(document).encode()
        headers = {"content-type": "application/json"}
        return library.Response(
            status, headers=headers, stream=library.ByteStream(content), request=request
        )


class Provider:
    """A resource server by the settings of one provider, asked in one of the worlds."""

    def __init__(self, world: str, settings: dict[str, Any], **server: Any) -> None:
        self.world, self.network = world, Network()
        self.settings = Settings(**settings)
        self.first = self.settings.issuers[0]
        self.issuer = Issuer(self.first.issuer or "", audience="nobody")
        for one in self.settings.issuers:
            if one.jwks_url is not None:
                self.network.publish(one.jwks_url, self.issuer.jwks)
        self.server = ResourceServer(self.settings, transport=self.network, **server)

    def identity(self, token: str) -> Identity:
        """Who shows this token. Raises ``Refused``."""
        flow = self.server.authenticate([b"Bearer " + token.encode()])
        if self.world == "sync":
            identity = run(flow, self.server.transport)
        else:

            async def ask() -> Identity | None:
                return await arun(flow, self.server.transport)

            identity = anyio.run(ask, backend=self.world)
        assert identity is not None
        return identity

    def refusal(self, token: str) -> Refused:
        """Why this token is refused."""
        with pytest.raises(Refused) as caught:
            self.identity(token)
        return caught.value

    def jwt(self, claims: dict[str, Any], **said: Any) -> str:
        """A token with these claims alone, beside its times; ``None`` leaves one out."""
        now = int(time.time())
        usual = dict.fromkeys(("aud", "sub", "client_id", "jti", "scope"))
        headers = {"typ": "JWT", **said.pop("headers", {})}
        keys = {name: said.pop(name) for name in ("algorithm", "key") if name in said}
        members: dict[str, Any] = {**usual, "iat": now, "exp": now + 600, **claims, **said}
        return self.issuer.jwt(headers=headers, **keys, **members)


Make = Callable[..., Provider]


@pytest.fixture(params=["sync", "asyncio", "trio"])
def make(request: pytest.FixtureRequest) -> Make:
    """A provider in each of the worlds."""
    return lambda settings, **server: Provider(request.param, settings, **server)
