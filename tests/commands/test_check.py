"""``check`` finds what is wrong, names the setting, and says how to mend it."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.commands.check import check
from bearer_middleware.testing import Issuer

Tell = Callable[..., Any]


def date(offset: float) -> dict[str, str]:
    """A Date header that is off by so many seconds."""
    return {"date": formatdate(time.time() + offset, usegmt=True)}


def test_all_is_well(issuer: Issuer, checked: Tell) -> None:
    """Where nothing is wrong, 0 is returned; allowed http is but a warning."""
    told = checked()
    assert told.status == 0
    assert not told.of("fail")
    assert "BEARER_ALLOW_INSECURE_HTTP" in told.of("warn")["BEARER_ISSUER"]
    assert "usable keys: 1 RS256" in told.text
    assert told.of("ok")["clock"] == "agrees with the server's"


def test_only_what_is_configured_is_asked(issuer: Issuer, checked: Tell) -> None:
    """Each document is fetched once, introspection asked once, and nothing else contacted."""
    checked()
    assert {asked.endpoint for asked in issuer.log} == {"metadata", "jwks", "introspection"}
    assert issuer.requests["jwks"] == issuer.requests["introspection"] == 1


def test_configuration_mistakes(checked: Tell) -> None:
    """Every mistake of the configuration has a line with the setting's name, and so have doubts."""
    told = checked(audience=None, leeway="soon", cache_sise=3)
    assert told.status == 1
    assert "is required" in told.of("fail")["BEARER_AUDIENCE"]
    assert "duration" in told.of("fail")["BEARER_LEEWAY"]
    assert "BEARER_CACHE_SIZE" in told.of("warn")["BEARER_CACHE_SISE"]


def test_unknown_variable_alone(checked: Tell) -> None:
    """An unknown variable is a warning, and warnings alone are no failure."""
    told = checked(leewey="10")
    assert told.status == 0
    assert "BEARER_LEEWAY" in told.of("warn")["BEARER_LEEWEY"]


def test_nothing_configured(checked: Tell) -> None:
    """Without any variable, the missing ones are named."""
    told = checked({})
    assert told.status == 1
    assert {"BEARER_ISSUER", "BEARER_AUDIENCE"} <= told.of("fail").keys()


def test_http_that_is_not_allowed(checked: Tell) -> None:
    """Over http without leave is a failure that names the way out."""
    told = checked(allow_insecure_http=None)
    assert told.status == 1
    assert "BEARER_ALLOW_INSECURE_HTTP" in told.of("fail")["BEARER_ISSUER"]


def test_any_audience(checked: Tell) -> None:
    """That tokens for anybody are accepted is allowed, and warned of."""
    told = checked(audience=None, allow_any_audience="true")
    assert told.status == 0
    assert "BEARER_ALLOW_ANY_AUDIENCE" in told.of("warn")


def test_issuer_unreachable(checked: Tell) -> None:
    """Nobody listening: the issuer cannot be reached, and no secret was shown to anybody."""
    told = checked(issuer="http://127.0.0.1:1")
    assert told.status == 1
    assert "cannot be reached" in told.of("fail")["BEARER_ISSUER"]


def test_slow_issuer(issuer: Issuer, checked: Tell) -> None:
    """An issuer that takes too long is told as such, in the time that is allowed."""
    issuer.fail("all", delay=30)
    began = time.monotonic()
    told = checked(http_timeout="0.3")
    assert time.monotonic() - began < 5
    assert "BEARER_HTTP_TIMEOUT" in told.of("fail")["BEARER_ISSUER"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 404}, "status 404"),
        ({"status": 429}, "patience"),
        ({"status": 500}, "in trouble"),
        ({"status": 302}, "redirects"),
        ({"drop": True}, "breaks the connection off"),
        ({"body": b"garbage"}, "not a JSON object"),
        ({"huge": 1_000_000}, "sends more"),
        ({"headers": {"content-encoding": "br"}}, "compresses"),
    ],
)
def test_no_metadata(issuer: Issuer, checked: Tell, fault: dict[str, Any], said: str) -> None:
    """Metadata that cannot be had is told with every place where it was looked for."""
    issuer.fail("metadata", **fault)
    told = checked()
    assert told.status == 1
    assert said in told.of("fail")["BEARER_ISSUER"]
    assert re.search(r"\S[.?] A server without", told.of("fail")["BEARER_ISSUER"])
    assert "/.well-known/oauth-authorization-server" in told.of("fail")["BEARER_ISSUER"]


def test_metadata_of_another_issuer(issuer: Issuer, checked: Tell) -> None:
    """A server that calls itself otherwise is told with the name that it gives itself."""
    issuer.fail("metadata", body=json.dumps({"issuer": f"{issuer.url}/"}).encode())
    told = checked()
    assert told.status == 1
    assert "must be exactly what the server calls itself" in told.of("fail")["BEARER_ISSUER"]
    assert f"another issuer, {issuer.url}/" in told.text


@pytest.mark.parametrize("named", ["c4n4ry", 7, "https://as/?c4n4ry", "\x1b[31mc4n4ry"])
def test_odd_name_in_metadata(issuer: Issuer, checked: Tell, named: object) -> None:
    """What could not be an issuer is not printed."""
    issuer.fail("metadata", body=json.dumps({"issuer": named}).encode())
    assert "another issuer" in checked().of("fail")["BEARER_ISSUER"]


def test_metadata_without_keys(issuer: Issuer, checked: Tell) -> None:
    """Metadata without jwks_uri: the setting that can stand in for it is named."""
    issuer.fail("metadata", body=json.dumps({"issuer": issuer.url}).encode())
    told = checked(client_id=None, client_secret=None)
    assert told.status == 1
    assert "jwks_uri" in told.of("fail")["BEARER_JWKS_URL"]


@pytest.mark.parametrize("url", ["https://[c4n4ry", "http://as.example\x1b/", "ftp://c4n4ry/", 7])
def test_odd_endpoint_in_metadata(issuer: Issuer, checked: Tell, url: object) -> None:
    """An endpoint that cannot be asked is a failure, whatever it is."""
    document = {"issuer": issuer.url, "jwks_uri": url}
    issuer.fail("metadata", body=json.dumps(document).encode())
    told = checked(client_id=None, client_secret=None)
    assert told.status == 1
    assert told.of("fail").keys() <= {"BEARER_ISSUER", "BEARER_JWKS_URL"}


def test_metadata_without_introspection(issuer: Issuer, checked: Tell) -> None:
    """Credentials, and no endpoint to show them to."""
    document = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks"}
    issuer.fail("metadata", body=json.dumps(document).encode())
    told = checked()
    assert told.status == 1
    assert "BEARER_CLIENT_ID" in told.of("fail")["BEARER_INTROSPECTION_URL"]
    assert "usable keys" in told.text


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 503}, "status 503"),
        ({"drop": True}, "breaks the connection off"),
        ({"body": b"c4n4ry"}, "not JSON"),
        ({"body": b'{"c4n4ry": 1}'}, "no list of keys"),
        ({"body": b'{"keys": []}'}, "it is empty"),
        ({"body": b'{"keys": [{"kty": "oct", "k": "c4n4ry"}, 7]}'}, "key 1: a private or symm"),
        ({"huge": 1_000_000}, "sends more"),
        ({"headers": {"content-encoding": "br"}}, "compresses"),
    ],
)
def test_no_usable_keys(issuer: Issuer, checked: Tell, fault: dict[str, Any], said: str) -> None:
    """A key set that serves nothing is told with the reason, never with its content."""
    issuer.fail("jwks", **fault)
    told = checked()
    assert told.status == 1
    assert said in told.of("fail")["BEARER_ISSUER"]


def test_some_keys_are_skipped(issuer: Issuer, checked: Tell) -> None:
    """Unusable keys beside usable ones are a warning that says why each is skipped."""
    keys = [*issuer.jwks["keys"], {"kty": "RSA", "n": "AQAB", "e": "AQAB"}]
    issuer.fail("jwks", body=json.dumps({"keys": keys}).encode())
    told = checked()
    assert told.status == 0
    assert "key 2: RSA modulus" in told.of("warn")["BEARER_ISSUER"]


def test_keys_from_their_own_address(issuer: Issuer, checked: Tell) -> None:
    """With BEARER_JWKS_URL that is what a failure names, and no metadata is fetched."""
    issuer.fail("jwks", status=404)
    url = f"{issuer.url}/jwks?key=c4n4ry"
    told = checked(jwks_url=url, client_id=None, client_secret=None)
    assert "status 404" in told.of("fail")["BEARER_JWKS_URL"]
    assert issuer.requests["metadata"] == 0


def test_keys_from_a_file(issuer: Issuer, checked: Tell, tmp_path: Path) -> None:
    """A key file is read and told of; nobody is contacted."""
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(issuer.jwks))
    told = checked(jwks_file=str(file), client_id=None, client_secret=None)
    assert told.status == 0
    assert "usable keys" in told.of("ok")["BEARER_JWKS_FILE"]
    assert not issuer.log


def test_key_file_without_usable_key(checked: Tell, tmp_path: Path) -> None:
    """A key file that serves nothing is a mistake of the configuration."""
    file = tmp_path / "keys.json"
    file.write_text('{"keys": [{"kty": "oct"}]}')
    assert "no usable key" in checked(jwks_file=str(file)).of("fail")["BEARER_JWKS_FILE"]


def test_shared_secret(issuer: Issuer, checked: Tell) -> None:
    """A shared secret needs nobody to be asked; what it serves is told."""
    secret = "c4n4ry" + "s" * 40
    told = checked(hmac_secret=secret, client_id=None, client_secret=None)
    assert told.status == 0
    assert "HS256" in told.of("ok")["BEARER_HMAC_SECRET"]
    assert not issuer.log


@pytest.mark.parametrize(
    ("offset", "level", "said"),
    [
        (45, "fail", "behind the server's"),
        (-45, "fail", "ahead of the server's"),
        (20, "warn", "behind the server's"),
        (-20, "warn", "ahead of the server's"),
    ],
)
def test_clock(issuer: Issuer, checked: Tell, offset: float, level: str, said: str) -> None:
    """A clock that is off by more than the leeway is a failure, by over half of it a warning."""
    issuer.fail("jwks", headers=date(offset))
    told = checked()
    assert told.status == (1 if level == "fail" else 0)
    assert said in told.of(level)["BEARER_LEEWAY"]
    assert "NTP" in told.of(level)["BEARER_LEEWAY"]


def test_small_clock_offset(issuer: Issuer, checked: Tell) -> None:
    """A small difference is told and is no reason to worry."""
    issuer.fail("jwks", headers=date(8))
    assert "within the leeway" in checked().of("ok")["clock"]


def test_answer_out_of_a_cache(issuer: Issuer, checked: Tell) -> None:
    """An old answer that says how old it is does not make the clock look wrong."""
    issuer.fail("jwks", headers=date(-500) | {"age": "500"})
    assert checked().of("ok")["clock"] == "agrees with the server's"


@pytest.mark.parametrize("value", [None, "yesterday", "Thu, 01 Jan 10000 00:00:00 GMT"])
def test_no_date(issuer: Issuer, checked: Tell, value: str | None) -> None:
    """Without a Date header that can be read the clock cannot be compared: a warning."""
    issuer.fail("all", headers={"date": value})
    told = checked()
    assert told.status == 0
    assert "no Date header" in told.of("warn")["clock"]


def test_wrong_secret(checked: Tell) -> None:
    """Refused credentials are told by the names of the settings they are made of."""
    told = checked(client_secret="c4n4ry-wrong")
    assert told.status == 1
    assert "status 401" in told.of("fail")["BEARER_CLIENT_SECRET"]
    assert "BEARER_CLIENT_ID" in told.of("fail")["BEARER_CLIENT_SECRET"]


def test_no_proof_where_one_is_wanted(checked: Tell) -> None:
    """With BEARER_CLIENT_AUTH=none there is no secret to blame."""
    told = checked(client_auth="none", client_secret=None)
    assert "status 401" in told.of("fail")["BEARER_CLIENT_AUTH"]


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"status": 403}, "BEARER_CLIENT_SECRET"),
        ({"status": 400, "body": b'{"error": "invalid_client"}'}, "BEARER_CLIENT_SECRET"),
        ({"status": 503}, "BEARER_INTROSPECTION_URL"),
        ({"status": 404}, "BEARER_INTROSPECTION_URL"),
        ({"body": b"c4n4ry"}, "BEARER_INTROSPECTION_URL"),
        ({"body": b'{"active": "c4n4ry"}'}, "BEARER_INTROSPECTION_URL"),
        ({"body": b'{"active": true}'}, "BEARER_INTROSPECTION_URL"),
        ({"drop": True}, "BEARER_INTROSPECTION_URL"),
        ({"huge": 1_000_000}, "BEARER_INTROSPECTION_URL"),
    ],
)
def test_introspection_fails(
    issuer: Issuer, checked: Tell, fault: dict[str, Any], name: str
) -> None:
    """What an introspection endpoint can do wrong is told under the setting that mends it."""
    issuer.fail("introspection", **fault)
    told = checked()
    assert told.status == 1
    assert name in told.of("fail")


def test_unsigned_answers(issuer: Issuer, checked: Tell) -> None:
    """Where only signed answers are believed, an unsigned one names the setting."""
    assert checked(introspection_signed="true").status == 0
    issuer.fail("introspection", body=b'{"active": false}')
    told = checked(introspection_signed="true")
    assert "BEARER_INTROSPECTION_SIGNED" in told.of("fail")["BEARER_INTROSPECTION_URL"]


def test_introspection_only(issuer: Issuer, checked: Tell) -> None:
    """With introspection alone, nothing but its endpoint is contacted."""
    told = checked(issuer=None, introspection_url=f"{issuer.url}/introspect")
    assert told.status == 0
    assert {asked.endpoint for asked in issuer.log} == {"introspection"}


def test_probe_begins_as_tokens_do(issuer: Issuer, checked: Tell) -> None:
    """The random token begins with the prefix of the issuer's tokens."""
    checked(token_prefix="orders_")
    assert b"token=orders_bearer-middleware-check-" in issuer.last_request.body


@pytest.mark.parametrize(
    ("audience", "said"),
    [
        ("required", "every such token is refused"),
        ("if-present", "tokens meant for other APIs are accepted"),
        ("any", "none is looked at"),
    ],
)
def test_answer_without_aud(issuer: Issuer, checked: Tell, audience: str, said: str) -> None:
    """A server that sends no aud is a warning under the setting that is about it."""
    told = checked(token=issuer.opaque(aud=None), introspection_audience=audience)
    assert told.status == 0
    assert said in told.of("warn")["BEARER_INTROSPECTION_AUDIENCE"]


def test_answer_with_aud(issuer: Issuer, checked: Tell) -> None:
    """A server that sends aud is well, for opaque tokens and for JWTs."""
    for token in (issuer.opaque(), issuer.jwt()):
        told = checked(token=token)
        assert told.status == 0
        assert "BEARER_INTROSPECTION_AUDIENCE" in told.of("ok")
        assert token not in told.text


def test_token_that_shows_nothing(issuer: Issuer, checked: Tell) -> None:
    """A token that is not active, or a stranger's, is a warning; the stranger's is sent nowhere."""
    assert "only a good token" in checked(token="nobody's".replace("'", "")).of("warn")["token"]
    issuer.log.clear()
    told = checked(token=issuer.jwt(iss="https://stranger.example"))
    assert "only a good token" in told.of("warn")["token"]
    assert issuer.requests["introspection"] == 3  # the three probes and nothing


def test_token_without_introspection(issuer: Issuer, checked: Tell) -> None:
    """Where nobody is asked about tokens there is nothing to say of answers."""
    told = checked(token=issuer.jwt(), client_id=None, client_secret=None)
    assert "not asked" in told.of("ok")["token"]


def test_token_cannot_be_asked_about(issuer: Issuer, checked: Tell) -> None:
    """An endpoint that fails, or what is no token, is a failure."""
    assert "not 'Bearer'" in checked(token="two words").of("fail")["token"]
    issuer.fail("introspection", status=503)
    assert "status 503" in checked(token=issuer.opaque()).of("fail")["token"]


def test_several_issuers(issuer: Issuer, checked: Tell, tmp_path: Path) -> None:
    """Of several issuers, each is told of by its own table."""
    file = tmp_path / "bearer.toml"
    file.write_text(
        f"""
        audience = "{issuer.audience}"
        allow_insecure_http = true
        [[issuers]]
        issuer = "{issuer.url}"
        [[issuers]]
        issuer = "http://127.0.0.1:1"
        """
    )
    told = checked({"BEARER_CONFIG_FILE": str(file)})
    assert told.status == 1
    assert "usable keys" in told.of("ok")["[[issuers]] #1 issuer"]
    assert "cannot be reached" in told.of("fail")["[[issuers]] #2 issuer"]


def test_one_table(issuer: Issuer, checked: Tell, tmp_path: Path) -> None:
    """A single issuer that has a table is told of by that table, too."""
    file = tmp_path / "bearer.toml"
    table = f'[[issuers]]\nissuer = "{issuer.url}"\naudience = "api"'
    file.write_text(f"allow_insecure_http = true\n{table}")
    assert "[[issuers]] #1 issuer" in checked({"BEARER_CONFIG_FILE": str(file)}).of("ok")


def test_unexpected(issuer: Issuer, checked: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expected is a failure among the findings, and the rest is still told."""
    from bearer_middleware.issuer.server import AuthorizationServer

    def explode(*_: object) -> None:
        raise RuntimeError("c4n4ry")

    monkeypatch.setattr(AuthorizationServer, "fetch_keys", explode)
    told = checked()
    assert told.status == 1
    assert told.of("fail")["BEARER_ISSUER"] == "unexpected: RuntimeError"
    assert "knows nothing of a random token" in told.text


def test_another_transport(issuer: Issuer, variables: Tell) -> None:
    """A transport may take the place of the network."""
    import io

    out = io.StringIO()
    assert check(variables(), out, transport=issuer.transport()) == 0


@pytest.mark.needs("redis")
def test_the_shared_cache(checked: Tell, canary: str) -> None:
    """Whether it answers is told, and its password is not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while sent := connection.recv(4096):
                    connection.sendall(b"+PONG\r\n" * sent.count(b"*"))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"redis://127.0.0.1:{port}"
        told = checked(cache_url=url, fleet_secret="f" * 64)
        assert told.of("ok")["BEARER_CACHE_URL"] == "the store answers"
        thread.join(10)
    away = f"redis://:{canary}@127.0.0.1:{port}"
    told = checked(cache_url=away, fleet_secret="f" * 64)
    assert told.status == 1
    assert told.of("fail")["BEARER_CACHE_URL"] == "the store does not answer: connect"
    assert canary not in told.text


def test_a_transmitter(issuer: Issuer, checked: Tell) -> None:
    """Its keys are looked for where event tokens are taken, unless it is one of the issuers."""
    name = "BEARER_SIGNALS_ISSUER"
    signals = {"signals_path": "/signals", "signals_audience": "us"}
    assert "one of the issuers" in checked(**signals, signals_issuer=issuer.url).of("ok")[name]
    with Issuer().serve() as sender:
        signals["signals_issuer"] = sender.url
        assert checked(**signals).of("ok")[name] == "usable keys: 1"
        sender.fail("metadata", status=404)
        told = checked(**signals)
        assert (told.status, "is not there" in told.of("fail")[name]) == (1, True)
        sender.fail("jwks", body=b'{"keys": []}')
        sender.recover("metadata")
        assert "no usable key" in checked(**signals).of("fail")[name]


def test_a_short_fleet_secret(checked: Tell, tmp_path: Path) -> None:
    """It is a warning, and not shown."""
    feed = tmp_path / "feed"
    feed.touch()
    told = checked(revocation_url=str(feed), fleet_secret="canary")
    assert told.status == 0
    assert told.of("warn")["BEARER_FLEET_SECRET"].startswith("is short")
    assert "canary" not in told.text
    told = checked(revocation_url=str(feed), fleet_secret="f" * 32)
    assert "BEARER_FLEET_SECRET" not in told.of("warn")
