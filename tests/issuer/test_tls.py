"""TLS to the authorization server: whom we trust, and how a certificate proves who we are."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import itertools
import json
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Reason, Refused
from bearer_middleware.flow import transport
from bearer_middleware.flow.drivers import arun, run


class Authority:
    """A certificate authority of this test, and what it issues, as PEM files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, self.key, authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str) -> tuple[str, str]:
        """Files of a certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key, authority=False)
        files = self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files[1].write_bytes(pem)
        return str(files[0]), str(files[1])

    def _sign(self, name: str, key: Any, *, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        issuer = name if authority else self.name
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )


class _Endpoint(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["content-length"])).decode()
        peer = self.request.getpeercert() or {}
        self.server.seen.append((dict(sum(peer.get("subject", ()), ())), form))  # type: ignore[attr-defined]
        body = json.dumps({"active": True, "aud": "api", "sub": "alice"}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Stay silent."""


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handshake that fails is what some tests are about."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Of the server and of its clients."""
    return Authority(tmp_path, "authority")


@pytest.fixture
def server(authority: Authority) -> Iterator[Any]:
    """An introspection endpoint that lets nobody in without a certificate."""
    with _Server(("127.0.0.1", 0), _Endpoint) as server:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(*authority.issue("server"))
        server.context.load_verify_locations(authority.file)
        server.context.verify_mode = ssl.CERT_REQUIRED
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Any, **settings: Any) -> Any:
    """The identity of some token."""
    api = ResourceServer(
        Settings(
            audience="api",
            introspection_url=f"https://127.0.0.1:{server.server_address[1]}/introspect",
            http_timeout=10,
            **settings,
        )
    )
    try:
        return run(api.authenticate([b"Bearer token"]), api.transport)
    finally:
        api.transport.close()


@pytest.mark.parametrize("together", [False, True], ids=["two files", "one file"])
def test_a_certificate_proves_who_we_are(
    server: Any, authority: Authority, tmp_path: Path, together: bool
) -> None:
    """``tls_client_auth``: the certificate goes with the handshake, the client id in the form."""
    certificate, key = authority.issue("resource-server")
    if together:
        both = tmp_path / "both.pem"
        both.write_bytes(Path(certificate).read_bytes() + Path(key).read_bytes())
        files: dict[str, str] = {"client_cert_file": str(both)}
    else:
        files = {"client_cert_file": certificate, "client_key_file": key}
    identity = ask(
        server,
        client_auth="tls_client_auth",
        client_id="rs",
        ca_file=str(authority.file),
        **files,
    )
    assert identity.subject == "alice"
    ((subject, form),) = server.seen
    assert subject == {"commonName": "resource-server"}
    assert "client_id=rs" in form


def refused(server: Any, **settings: Any) -> Reason:
    """Why it was not to be known."""
    with pytest.raises(Refused) as refusal:
        ask(server, **settings)
    assert refusal.value.status == 503
    assert server.seen == []
    return refusal.value.reason


def test_without_a_certificate(server: Any, authority: Authority) -> None:
    """The server ends the handshake, and we do not know."""
    reason = refused(server, client_auth="none", ca_file=str(authority.file))
    assert reason is Reason.INTROSPECTION_UNAVAILABLE


def test_with_a_certificate_of_a_stranger(
    server: Any, authority: Authority, tmp_path: Path
) -> None:
    """The same."""
    certificate, key = Authority(tmp_path, "stranger").issue("resource-server")
    refused(
        server,
        client_auth="tls_client_auth",
        client_id="rs",
        client_cert_file=certificate,
        client_key_file=key,
        ca_file=str(authority.file),
    )


def test_a_server_that_nobody_vouches_for_dsc_5(server: Any, authority: Authority) -> None:
    """DSC-5: without ``BEARER_CA_FILE`` its authority is unknown, and nothing is sent to it."""
    certificate, key = authority.issue("resource-server")
    refused(
        server,
        client_auth="tls_client_auth",
        client_id="rs",
        client_cert_file=certificate,
        client_key_file=key,
    )


def test_a_server_of_another_authority_dsc_5(
    server: Any, authority: Authority, tmp_path: Path
) -> None:
    """DSC-5: further authorities are trusted, not all of them."""
    certificate, key = authority.issue("resource-server")
    refused(
        server,
        client_auth="tls_client_auth",
        client_id="rs",
        client_cert_file=certificate,
        client_key_file=key,
        ca_file=str(Authority(tmp_path, "other").file),
    )


# -- what is replaced ----------------------------------------------------------------------


@pytest.fixture(params=["threads", "asyncio", "trio"])
def drive(request: pytest.FixtureRequest) -> Any:
    """Ask for one token after the other, in each world; before each ``change`` something."""

    def blocking(api: ResourceServer, changes: Any) -> list[str]:
        with contextlib.closing(api):
            return [
                outcome(lambda flow=flow: run(flow, api.transport)) for flow in flows(api, changes)
            ]

    async def running(api: ResourceServer, changes: Any) -> list[str]:
        told = []
        for flow in flows(api, changes):
            try:
                told.append((await arun(flow, api.transport)).subject)
            except Refused as refusal:
                told.append(refusal.reason)
        await api.aclose()
        return told

    def drive(api: ResourceServer, *changes: Any) -> list[str]:
        if request.param == "threads":
            return blocking(api, changes)
        return anyio.run(running, api, changes, backend=request.param)

    return drive


def outcome(ask: Any) -> str:
    """Who it was, or why that was not to be known."""
    try:
        return str(ask().subject)
    except Refused as refusal:
        return refusal.reason


def flows(api: ResourceServer, changes: Any) -> Iterator[Any]:
    """One question, and one after each change."""
    for number, change in enumerate((lambda: None, *changes)):
        change()
        yield api.authenticate([b"Bearer token%d" % number])


def api_of(server: Any, authority: Authority, certificate: str, key: str) -> ResourceServer:
    """An API with a certificate, whose files it looks at before every exchange."""
    api = ResourceServer(
        Settings(
            audience="api",
            introspection_url=f"https://127.0.0.1:{server.server_address[1]}/introspect",
            http_timeout=10,
            client_auth="tls_client_auth",
            client_id="rs",
            client_cert_file=certificate,
            client_key_file=key,
            ca_file=str(authority.file),
        )
    )
    later = itertools.count()
    api.transport._certificates._monotonic = lambda: float(next(later))
    return api


def names(server: Any) -> list[str]:
    """Whom the server has seen."""
    return [subject["commonName"] for subject, _ in server.seen]


def test_a_replaced_certificate(server: Any, authority: Authority, drive: Any) -> None:
    """The next handshake shows it; in between, half of it changes nothing."""
    certificate, key = authority.issue("first")
    second = [Path(file).read_bytes() for file in authority.issue("second")]
    api = api_of(server, authority, certificate, key)
    told = drive(
        api,
        lambda: Path(certificate).write_bytes(second[0]),  # whose key is not there yet
        lambda: Path(key).write_bytes(second[1]),
        lambda: Path(key).unlink(),
    )
    assert told == ["alice"] * 4
    assert names(server) == ["first", "first", "second", "second"]
    counts = api.events.counts
    assert (counts["file_renewed"], counts["file_unusable"]) == (1, 2)


def test_a_replaced_authority(
    server: Any, authority: Authority, tmp_path: Path, drive: Any
) -> None:
    """A server that nobody vouched for is trusted once somebody does."""
    certificate, key = authority.issue("resource-server")
    good = authority.file.read_bytes()
    authority.file.write_bytes(Authority(tmp_path, "other").file.read_bytes())
    api = api_of(server, authority, certificate, key)
    told = drive(api, lambda: authority.file.write_bytes(good))
    assert told == ["introspection_unavailable", "alice"]


def test_files_that_are_gone_before_they_were_needed(
    server: Any, authority: Authority, drive: Any
) -> None:
    """503, never 500, and nothing is sent without a certificate; then it recovers."""
    certificate, key = authority.issue("resource-server")
    content = Path(key).read_bytes()
    api = api_of(server, authority, certificate, key)
    Path(key).unlink()
    told = drive(api, lambda: Path(key).write_bytes(content))
    assert told == ["introspection_unavailable", "alice"]


def test_old_clients_are_closed(server: Any, authority: Authority) -> None:
    """At the end, however many certificates there were."""
    certificate, key = authority.issue("resource-server")
    api = api_of(server, authority, certificate, key)
    clients: list[Any] = []
    for number in range(3):
        for file, content in zip((certificate, key), authority.issue(str(number)), strict=True):
            Path(file).write_bytes(Path(content).read_bytes())
        run(api.authenticate([b"Bearer token%d" % number]), api.transport)
        clients += [each for each in api.transport._clients.values() if each not in clients]
    assert len(clients) == 3
    api.close()
    assert all(client.is_closed for client in clients)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_old_clients_of_a_loop_are_closed(
    server: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Not before the exchanges that others have on them are over; then by the next caller."""
    certificate, key = authority.issue("first")
    second = [Path(file).read_bytes() for file in authority.issue("second")]
    api = api_of(server, authority, certificate, key)

    def replace() -> None:
        Path(certificate).write_bytes(second[0])
        Path(key).write_bytes(second[1])

    async def ask(token: bytes) -> list[Any]:
        await arun(api.authenticate([b"Bearer " + token]), api.transport)
        (clients,) = api.transport._loops.values()
        return list(clients.values())

    async def main() -> None:
        (old,) = await ask(b"one")
        replace()
        assert len(await ask(b"two")) == 2
        assert not old.is_closed
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 61)
        monkeypatch.setattr(transport, "time", later)
        (new,) = await ask(b"three")
        monkeypatch.undo()
        assert old.is_closed
        assert not new.is_closed
        await api.aclose()
        assert new.is_closed

    anyio.run(main, backend=backend)
    assert names(server) == ["first", "second", "second"]
