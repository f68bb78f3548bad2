"""Discovery: which documents are asked, and which are believed (RFC 8414, OpenID Connect)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bearer_middleware import ConfigError, Settings
from bearer_middleware.errors import Reason, Refused, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Background, HttpRequest, HttpResponse, Tls, Wait
from bearer_middleware.flow.events import Events
from bearer_middleware.issuer.metadata import Metadata, well_known_urls
from bearer_middleware.issuer.upstream import Upstream

ISSUER = "https://as.test/t1"
URLS = well_known_urls(ISSUER)
JWKS = "https://as.test/keys"


def answered(document: Any, status: int = 200, **headers: str) -> HttpResponse:
    """A document as the server sends it."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return HttpResponse(status, {"content-type": "application/json", **headers}, body)


GOOD = {"issuer": ISSUER, "jwks_uri": JWKS}
NOT_FOUND = answered({"error": "not_found"}, 404)


class Conversation:
    """Metadata, its clock, and what it asked for."""

    def __init__(self, issuer: str = ISSUER, *, insecure: bool = False) -> None:
        self.time = 1000.0
        clock = Clock(lambda: self.time, lambda: self.time)
        self.events = events = Events()
        upstream = Upstream("metadata", issuer=issuer, timeout=3, clock=clock, events=events)
        self.metadata = Metadata(
            issuer,
            upstream=upstream,
            timeout=3,
            clock=clock,
            events=events,
            tls=Tls(),
            insecure=insecure,
        )
        self.asked: list[str] = []
        self.later: list[Any] = []

    def endpoint(self, *answers: HttpResponse | Exception, name: str = "jwks_uri") -> str:
        """Ask for an endpoint while the server answers so."""
        self.asked.clear()
        return str(self.run(self.metadata.endpoint(name, self.time + 3), *answers))

    def background(self, *answers: HttpResponse | Exception) -> None:
        """Do the one thing that was set aside."""
        (start,) = self.later
        self.later.clear()
        self.run(start(), *answers)

    def run(self, flow: Any, *answers: HttpResponse | Exception) -> Any:
        """What comes of a flow while the server answers so."""
        replies = list(answers)
        try:
            request: Any = next(flow)
            while True:
                if isinstance(request, Background):
                    self.later.append(request.start)
                    request = flow.send(None)
                    continue
                if isinstance(request, Wait):  # a moment before trying once more
                    request = flow.send(False)
                assert isinstance(request, HttpRequest)
                assert request.headers["Accept"].startswith("application/json")
                self.asked.append(request.url)
                reply = replies.pop(0)
                answer = flow.throw if isinstance(reply, Exception) else flow.send
                request = answer(reply)
        except StopIteration as done:
            assert not replies
            return done.value


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://a",
            ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"],
        ),
        (
            "https://a/",
            ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"],
        ),
        *(
            (
                f"https://a/t1{slash}",
                [
                    "/.well-known/oauth-authorization-server/t1",
                    "/.well-known/openid-configuration/t1",
                    "/t1/.well-known/openid-configuration",
                ],
            )
            for slash in ("", "/")
        ),
        (
            "https://a:8443/api/oidc",
            [
                "/.well-known/oauth-authorization-server/api/oidc",
                "/.well-known/openid-configuration/api/oidc",
                "/api/oidc/.well-known/openid-configuration",
            ],
        ),
    ],
)
def test_order_of_well_known_urls_dsc_2(issuer: str, urls: list[str]) -> None:
    """DSC-2: RFC 8414 inserts before the path, OpenID appends; one final slash is stripped."""
    origin = "/".join(issuer.split("/")[:3])
    assert well_known_urls(issuer) == tuple(origin + url for url in urls)


@pytest.mark.parametrize("found_at", [0, 1, 2])
def test_the_first_document_that_names_it_is_used_dsc_2(found_at: int) -> None:
    """DSC-2: asked one after another, and no further than needed."""
    conversation = Conversation()
    assert conversation.endpoint(*[NOT_FOUND] * found_at, answered(GOOD)) == JWKS
    assert conversation.asked == list(URLS[: found_at + 1])


@pytest.mark.parametrize(
    "named",
    ["https://evil.test", ISSUER + "/", "https://as.test/T1", "https://as.test", None, 7, [ISSUER]],
)
def test_another_issuer_is_not_used_dsc_1(named: Any) -> None:
    """DSC-1: ``issuer`` is identical to the configured one, or the document is not used."""
    conversation = Conversation()
    with pytest.raises(Unavailable) as refused:
        conversation.endpoint(*[answered({**GOOD, "issuer": named})] * 3)
    assert refused.value.reason is Reason.METADATA_UNAVAILABLE
    assert conversation.asked == list(URLS)


def test_a_missing_issuer_is_not_used_dsc_1() -> None:
    """DSC-1: also where it says nothing of an issuer."""
    with pytest.raises(Unavailable):
        Conversation().endpoint(*[answered({"jwks_uri": JWKS})] * 3)


@pytest.mark.parametrize("found_at", [0, 1, 2])
def test_an_endpoint_in_only_one_document(found_at: int) -> None:
    """Real servers name introspection in one document only, and it is found (interop 9.9)."""
    documents: list[Any] = [answered(GOOD)] * 3
    documents[found_at] = answered({**GOOD, "introspection_endpoint": "https://as.test/i"})
    conversation = Conversation()
    assert (
        conversation.endpoint(*documents[: found_at + 1], name="introspection_endpoint")
        == "https://as.test/i"
    )
    assert conversation.endpoint() == JWKS
    assert conversation.asked == []


def test_documents_that_differ_dsc_6() -> None:
    """DSC-6: of two values the one of the first document counts, and the log tells of it."""
    first = answered(GOOD)
    second = answered({**GOOD, "jwks_uri": "https://as.test/other", "x": "https://as.test/x"})
    conversation = Conversation()
    assert conversation.endpoint(first, second, name="x") == "https://as.test/x"
    assert conversation.endpoint() == JWKS
    assert conversation.events.counts == {"metadata_differs": 1}


BAD_DOCUMENTS = {
    "html": answered(b"<!doctype html><title>Sign in</title>", **{"content-type": "text/html"}),
    "garbage": answered(b"\x00\xff garbage"),
    "empty": answered(b""),
    "array": answered([GOOD]),
    "string": answered("jwks_uri"),
    "null": answered(None),
    "twice": answered(b'{"issuer":"https://as.test/t1","issuer":"https://as.test/t1"}'),
    "nan": answered(b'{"issuer":"https://as.test/t1","x":NaN}'),
    "deep": answered(b'{"issuer":"https://as.test/t1","x":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "bom": answered(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()),
    "utf-16": answered(json.dumps(GOOD).encode("utf-16")),
    "gzip": answered(GOOD, **{"content-encoding": "gzip"}),
    "redirect": answered(b"", 302, location="http://127.0.0.1/"),
    "created": answered(GOOD, 201),
    "error": answered(GOOD, 500),
}


@pytest.mark.parametrize("document", BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS.keys())
def test_what_is_no_document_dsc_4(document: HttpResponse) -> None:
    """DSC-4: only 200 with one strict JSON object; DSC-8: no redirect is followed."""
    with pytest.raises(Unavailable):
        Conversation().endpoint(document, document, document)


@pytest.mark.parametrize("document", BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS.keys())
def test_the_next_document_may_be_good(document: HttpResponse) -> None:
    """A login page under one well-known URL says nothing about the others."""
    assert Conversation().endpoint(document, document, answered(GOOD)) == JWKS


@pytest.mark.parametrize(
    "url",
    [
        "http://as.test/keys",
        "ftp://as.test/keys",
        "file:///etc/passwd",
        "/keys",
        "",
        "as.test/keys",
        7,
        None,
        ["https://as.test/keys"],
    ],
)
def test_an_endpoint_is_https_dsc_3(url: Any) -> None:
    """DSC-3: what the metadata names is fetched over https, or not at all."""
    documents = [answered({**GOOD, "jwks_uri": url})] * 3
    conversation = Conversation()
    with pytest.raises(Unavailable, match="the metadata has no usable jwks_uri") as refused:
        conversation.endpoint(*documents)
    assert refused.value.reason is Reason.MISCONFIGURED
    assert conversation.asked == [*URLS]
    # The next document may name one that can be used, and one that serves already goes on.
    conversation = Conversation()
    assert conversation.endpoint(documents[0], answered(GOOD)) == JWKS
    assert conversation.events.counts["metadata_differs"] == 0
    conversation.time += 3601
    assert conversation.endpoint() == JWKS
    conversation.background(*documents)
    assert conversation.endpoint() == JWKS


def test_an_endpoint_over_http_where_that_is_allowed_dsc_3() -> None:
    """DSC-3: an explicit switch for development."""
    conversation = Conversation("http://127.0.0.1:1", insecure=True)
    document = {"issuer": "http://127.0.0.1:1", "jwks_uri": "http://127.0.0.1:1/keys"}
    assert conversation.endpoint(answered(document)) == "http://127.0.0.1:1/keys"


@pytest.mark.parametrize("where", range(3))
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (answered(GOOD | {"issuer": f"{ISSUER}/"}), "the metadata names another issuer"),
        (answered(b"<html>"), "not a JSON object"),
        (answered(b"", 401), "status 401"),
        (NOT_FOUND, "status 404"),
    ],
)
def test_what_is_there_is_told_before_what_is_not(
    where: int, answer: HttpResponse, told: str
) -> None:
    """Where every document is missing but one, which is no good, that one is the mistake."""
    talk = Conversation()
    answers = [NOT_FOUND, NOT_FOUND, NOT_FOUND]
    answers[where] = answer
    with pytest.raises(Unavailable) as refused:
        talk.endpoint(*answers)
    assert refused.value.detail == told
    assert talk.metadata.missing == (answer is NOT_FOUND)


@pytest.mark.parametrize("issuer", ["https://as.test?x=1", "https://as.test#f", "http://as.test"])
def test_an_issuer_that_is_none_dsc_3(issuer: str) -> None:
    """DSC-3: https, no query, no fragment."""
    with pytest.raises(ConfigError):
        Settings(issuer=issuer, audience="api")


def test_there_is_no_way_to_turn_off_tls_dsc_5() -> None:
    """DSC-5: certificates are checked on every call; more authorities can be named, not fewer."""
    from bearer_middleware.settings.variables import VARIABLES

    assert not [name for name in VARIABLES if "verify" in name or "skip" in name]


MOVED = {**GOOD, "jwks_uri": "https://as.test/moved"}


def test_metadata_is_remembered() -> None:
    """For an hour; then it is asked again apart, and the old answer serves until it is there,
    and where that fails.
    """
    conversation = Conversation()
    conversation.endpoint(answered(GOOD))
    conversation.time += 3590
    assert conversation.endpoint() == JWKS
    assert not conversation.later
    conversation.time += 20
    assert [conversation.endpoint() for _ in range(3)] == [JWKS] * 3
    conversation.background(answered(MOVED))
    assert conversation.endpoint() == MOVED["jwks_uri"]
    conversation.time += 4000
    assert conversation.endpoint() == MOVED["jwks_uri"]
    conversation.background(NOT_FOUND, NOT_FOUND, NOT_FOUND)
    assert conversation.endpoint() == MOVED["jwks_uri"]
    assert not conversation.later


def test_a_renewal_that_is_lost_or_failed_is_begun_again() -> None:
    """The loop that should have done it may be gone; failures are backed off from."""
    conversation = Conversation()
    conversation.endpoint(answered(GOOD))
    conversation.time += 3601
    conversation.endpoint()
    conversation.later.clear()
    conversation.time += 3.1
    assert conversation.endpoint() == JWKS
    conversation.background(NOT_FOUND, NOT_FOUND, NOT_FOUND)
    conversation.time += 3.1
    assert conversation.endpoint() == JWKS
    conversation.background(answered(MOVED))
    assert conversation.endpoint() == MOVED["jwks_uri"]


def test_a_renewal_loses_no_endpoint_that_only_one_document_names() -> None:
    """It is looked for until all are found again, and serves on where its document is away."""
    conversation = Conversation()
    both = {**GOOD, "introspection_endpoint": "https://as.test/i"}
    conversation.endpoint(answered(GOOD), answered(both), name="introspection_endpoint")
    conversation.time += 3601
    assert conversation.endpoint() == JWKS
    conversation.background(answered(MOVED), NOT_FOUND, NOT_FOUND)
    assert conversation.endpoint() == MOVED["jwks_uri"]
    assert conversation.endpoint(name="introspection_endpoint") == "https://as.test/i"
    conversation.time += 31
    assert conversation.endpoint(name="introspection_endpoint") == "https://as.test/i"
    other = {"issuer": ISSUER, "introspection_endpoint": "https://as.test/j"}
    conversation.background(answered(MOVED), answered(other))
    assert conversation.endpoint(name="introspection_endpoint") == "https://as.test/j"
    assert conversation.endpoint() == MOVED["jwks_uri"]


def test_an_endpoint_in_doubt_is_asked_for_at_once() -> None:
    """It did not answer: whoever needs it waits for the metadata, and for no other endpoint's."""
    conversation = Conversation()
    both = {**GOOD, "introspection_endpoint": "https://as.test/i"}
    conversation.endpoint(answered(both))
    conversation.metadata.doubt("jwks_uri")
    assert conversation.endpoint(name="introspection_endpoint") == "https://as.test/i"
    assert conversation.endpoint(NOT_FOUND, NOT_FOUND, NOT_FOUND) == JWKS
    conversation.time += 1.1
    assert conversation.endpoint(answered({**both, **MOVED})) == MOVED["jwks_uri"]
    assert conversation.endpoint() == MOVED["jwks_uri"]
    assert not conversation.later


def test_what_is_missing_is_asked_again_soon() -> None:
    """An operator mends the document: half a minute later it is believed."""
    conversation = Conversation()
    with pytest.raises(Unavailable) as refused:
        conversation.endpoint(*[answered(GOOD)] * 3, name="introspection_endpoint")
    assert refused.value.reason is Reason.MISCONFIGURED
    with pytest.raises(Unavailable):
        conversation.endpoint(name="introspection_endpoint")
    conversation.time += 31
    mended = answered({**GOOD, "introspection_endpoint": "https://as.test/i"})
    assert conversation.endpoint(mended, name="introspection_endpoint") == "https://as.test/i"


def test_what_is_said_nowhere_is_known_for_as_long_as_the_rest() -> None:
    """A member that servers need not have, unlike an endpoint, is no gap."""
    talk = Conversation()

    def said(*answers: HttpResponse) -> Any:
        return talk.run(talk.metadata.said("critical_subject_members", talk.time + 3), *answers)

    assert said(*[answered(GOOD)] * 3) is None
    talk.time += 3599
    assert said() is None
    assert not talk.later
    talk.time += 2
    assert said() is None
    talk.background(answered({**GOOD, "critical_subject_members": ["user"]}))
    assert said() == ["user"]


def test_failures_cool_down_dsc_9() -> None:
    """DSC-9: a failed discovery is not repeated at once, and says for how long."""
    conversation = Conversation()
    with pytest.raises(Refused):
        conversation.endpoint(*[NOT_FOUND] * 3)
    with pytest.raises(Unavailable) as cooling:
        conversation.endpoint()
    assert 0 < cooling.value.retry_after <= 1
    conversation.time += 1.1
    assert conversation.endpoint(answered(GOOD)) == JWKS


@pytest.mark.parametrize(("detail", "attempts"), [("timeout", 1), ("connect", 2)])
def test_a_server_that_is_down_is_asked_for_one_document(detail: str, attempts: int) -> None:
    """The others would be on the same server, and time is short."""
    from bearer_middleware.errors import TransportError

    conversation = Conversation()
    with pytest.raises(Unavailable):
        conversation.endpoint(*[TransportError(detail)] * attempts)
    assert conversation.asked == [URLS[0]] * attempts


@pytest.mark.parametrize("path", ["", "/", "/o", "/api/oidc", "/t1/"])
def test_issuers_with_a_path(build: Any, path: str) -> None:
    """From discovery to identity, for a JWT and an opaque token."""
    from bearer_middleware.testing import Issuer

    issuer = Issuer(f"https://as.test{path}")
    world = build(issuer, **issuer.settings())
    assert world.ask(issuer.jwt()) == 200
    assert world.ask(issuer.opaque()) == 200


def test_junk_causes_no_fetch_dsc_8(world: Any, issuer: Any) -> None:
    """DSC-8: URLs in a token are never followed, and a stranger's token asks nobody."""
    from bearer_middleware.testing import Issuer

    stranger = Issuer("https://evil.test")
    lure = {"jku": "https://evil.test/jwks", "x5u": "https://evil.test/x", "jwk": stranger.jwks}
    assert world.ask(stranger.jwt(headers=lure)) == 401
    assert sum(issuer.requests.values()) == 0
    assert world.ask(stranger.jwt(headers=lure, iss=issuer.url)) == 401
    assert {asked.path for asked in issuer.log} <= {
        "/.well-known/oauth-authorization-server",
        "/jwks",
    }
    assert world.ask(issuer.jwt(headers=lure)) == 200
