"""An issuer that is not served, and how to ask it without a wire."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest

from bearer_middleware.testing import Issuer
from bearer_middleware.testing.endpoints import Answer, Request

Ask = Callable[..., Answer]
Post = Callable[..., tuple[int, Any]]


@pytest.fixture
def issuer() -> Issuer:
    """Fresh, with every argument left at its default."""
    return Issuer()


@pytest.fixture
def ask(issuer: Issuer) -> Ask:
    """Send one request to the issuer and get the neutral answer."""

    def send(method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        return issuer.respond(Request(method, path, headers, body))[0]

    return send


@pytest.fixture
def post(ask: Ask) -> Post:
    """Post a form and get the status and the JSON document."""

    def send(path: str, form: dict[str, str], **headers: str) -> tuple[int, Any]:
        answer = ask("POST", path, urlencode(form).encode(), **headers)
        return answer.status, json.loads(answer.body)

    return send


@pytest.fixture
def basic(issuer: Issuer) -> str:
    """The Authorization header of the registered client."""
    pair = f"{quote_plus(issuer.client_id)}:{quote_plus(issuer.client_secret or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
