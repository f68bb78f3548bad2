"""Feeds that can only be read: a file, and a document behind a URL."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import RevocationError, TransportError
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import HttpRequest, HttpResponse, Tls, Wait
from bearer_middleware.flow.events import Events
from bearer_middleware.revocation import document_feed
from bearer_middleware.revocation.document_feed import FileFeed, HttpFeed
from bearer_middleware.revocation.entries import Entries
from bearer_middleware.revocation.marks import Kind, Mark, digest_of
from bearer_middleware.testing import Issuer
from tests.revocation.conftest import asked, eventually

SECRET = "f" * 64
URL = "https://as.example/revoked.jsonl"
#: What a proxy says while the server of the document is away.
PAGE = b"<!doctype html>\n<title>Sign in</title>\n"
MARKS = [
    Mark(Kind.TOKEN_ID, bytes([number]) * 16, float(int(time.time()) + 3600)) for number in range(3)
]


@pytest.fixture
def entries() -> Entries:
    """Of a fleet."""
    return Entries(SECRET, 3600.0, Clock(), Events())


def lines(entries: Entries, *marks: Mark) -> bytes:
    """A document."""
    return b"".join(entries.sealed(mark) + b"\n" for mark in marks)


def finish(flow: Any) -> Any:
    """The end of a flow that waits for nobody."""
    assert isinstance(next(flow), Wait)
    with pytest.raises(StopIteration) as stopped:
        flow.send(False)
    return stopped.value.value


class TestFile:
    """Looked at every second, read where it changed."""

    def test_what_is_added(self, tmp_path: Path, entries: Entries) -> None:
        """By writing, or by renaming; empty lines are nothing."""
        path = tmp_path / "revoked"
        path.write_bytes(lines(entries, MARKS[0]) + b"\r\n\n")
        feed = FileFeed(str(path), entries)
        assert feed.snapshot() == MARKS[:1]
        with path.open("ab") as file:
            file.write(lines(entries, MARKS[1]))
        assert finish(feed.following()) == MARKS[:2]
        new = tmp_path / "new"
        new.write_bytes(lines(entries, *MARKS))
        new.rename(path)
        assert finish(feed.following()) == MARKS
        assert entries.rejected == 0

    def test_what_did_not_change(self, tmp_path: Path, entries: Entries) -> None:
        """Is not read again, once it is no longer young."""
        path = tmp_path / "revoked"
        path.write_bytes(lines(entries, MARKS[0]))
        feed = FileFeed(str(path), entries)
        feed.snapshot()
        assert finish(feed.following()) == MARKS[:1]  # within a tick of its clock
        os.utime(path, (time.time() - 10, time.time() - 10))
        assert finish(feed.following()) == MARKS[:1]
        assert finish(feed.following()) == []

    def test_what_cannot_be_read(
        self, tmp_path: Path, entries: Entries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Is no empty feed."""
        for bad in (tmp_path / "missing", tmp_path):
            with pytest.raises((OSError, TransportError)):
                FileFeed(str(bad), entries).snapshot()
        monkeypatch.setattr(document_feed, "MAX_DOCUMENT_BYTES", 10)
        (tmp_path / "long").write_bytes(b"x" * 11)
        with pytest.raises(TransportError, match="too_large"):
            FileFeed(str(tmp_path / "long"), entries).snapshot()

    def test_a_line_that_is_half_written(self, tmp_path: Path, entries: Entries) -> None:
        """The others count, and it does once it is whole."""
        path = tmp_path / "revoked"
        whole = lines(entries, *MARKS[:2])
        path.write_bytes(whole[:-20])
        feed = FileFeed(str(path), entries)
        assert feed.snapshot() == MARKS[:1]
        path.write_bytes(whole)
        assert finish(feed.following()) == MARKS[:2]

    def test_something_else(self, tmp_path: Path, entries: Entries) -> None:
        """Without any entry it is no feed, however often it is looked at."""
        path = tmp_path / "revoked"
        path.write_bytes(PAGE)
        os.utime(path, (time.time() - 10, time.time() - 10))
        feed = FileFeed(str(path), entries)
        with pytest.raises(TransportError, match="no entry in it"):
            feed.snapshot()
        with pytest.raises(TransportError, match="no entry in it"):
            finish(feed.following())
        path.write_bytes(lines(entries, MARKS[0]) + PAGE)
        assert finish(feed.following()) == MARKS[:1]


class TestHttp:
    """A conversation: what is asked, and what is made of the answer."""

    def ask(self, flow: Any, status: int, body: bytes = b"", **headers: str) -> Any:
        """The request that is made, and the marks of this answer."""
        effect = next(flow)
        if isinstance(effect, Wait):
            effect = flow.send(False)
        assert isinstance(effect, HttpRequest)
        assert effect.url == URL
        with pytest.raises(StopIteration) as stopped:
            flow.send(HttpResponse(status, headers, body))
        return effect, stopped.value.value

    def test_etag(self, entries: Entries) -> None:
        """Only a change is fetched; a snapshot is all of it, whatever was seen."""
        feed = HttpFeed(URL, entries, 3.0, Tls())
        body = lines(entries, MARKS[0])
        request, marks = self.ask(feed.snapshot(), 200, body, etag='"1"')
        assert (dict(request.headers), marks) == ({}, MARKS[:1])
        assert request.limit == document_feed.MAX_DOCUMENT_BYTES
        request, marks = self.ask(feed.following(), 304)
        assert (dict(request.headers), marks) == ({"If-None-Match": '"1"'}, [])
        body = lines(entries, *MARKS[:2])
        request, marks = self.ask(feed.following(), 200, body, etag='"2"')
        assert marks == MARKS[:2]
        request, marks = self.ask(feed.snapshot(), 200, body, etag='"2"')
        assert (dict(request.headers), marks) == ({}, MARKS[:2])

    def test_without_etag(self, entries: Entries) -> None:
        """It is fetched each time, and opened where it changed."""
        feed = HttpFeed(URL, entries, 3.0, Tls())
        body = lines(entries, MARKS[0])
        assert self.ask(feed.snapshot(), 200, body)[1] == MARKS[:1]
        request, marks = self.ask(feed.following(), 200, body)
        assert (dict(request.headers), marks) == ({}, [])

    @pytest.mark.parametrize("status", [204, 301, 304, 401, 404, 500])
    def test_other_answers(self, entries: Entries, status: int) -> None:
        """Are no empty feed, and none is followed elsewhere."""
        flow = HttpFeed(URL, entries, 3.0, Tls()).snapshot()
        next(flow)
        with pytest.raises(TransportError, match=f"status {status}"):
            flow.send(HttpResponse(status))

    def test_something_else(self, entries: Entries) -> None:
        """A page with status 200 is no word of the feed, and is not remembered as one."""
        feed = HttpFeed(URL, entries, 3.0, Tls())
        body = lines(entries, MARKS[0])
        assert self.ask(feed.snapshot(), 200, body, etag='"1"')[1] == MARKS[:1]
        for _ in range(2):
            flow = feed.following()
            next(flow)
            request = flow.send(False)
            assert dict(request.headers) == {"If-None-Match": '"1"'}
            with pytest.raises(TransportError, match="no entry in it"):
                flow.send(HttpResponse(200, {"etag": '"page"'}, PAGE))
        assert self.ask(feed.following(), 304)[1] == []


class Served:
    """A document on loopback, with an ETag."""

    def __init__(self) -> None:
        self.body, self.asked = b"", []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tag = f'"{hash(outer.body)}"'
                same = self.headers.get("If-None-Match") == tag
                outer.asked.append(same)
                self.send_response(304 if same else 200)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", "0" if same else str(len(outer.body)))
                self.end_headers()
                if not same:
                    self.wfile.write(outer.body)

            def log_message(self, *words: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/revoked"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def served() -> Iterator[Served]:
    """Ends with the test."""
    served = Served()
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.mark.parametrize("place", ["file", "http"])
@pytest.mark.parametrize("secret", [SECRET, None])
def test_from_end_to_end(
    *,
    entries: Entries,
    tmp_path: Path,
    served: Served,
    place: str,
    secret: str | None,
) -> None:
    """A served issuer, a document that is written by somebody else, and requests."""
    path = tmp_path / "revoked.jsonl"
    path.touch()
    with Issuer().serve() as issuer:
        url = str(path) if place == "file" else served.url
        settings = issuer.settings(revocation_url=url, fleet_secret=secret)
        server = ResourceServer(Settings(**settings))
        token = issuer.jwt(jti="j")
        try:
            assert asked(server, token) == "alice"
            with pytest.raises(RevocationError, match="can only be read"):
                server.revoke(token_id="j")
            line = json.dumps({"issuer": issuer.url, "token_id": "j"}).encode()
            if secret is not None:
                digest = digest_of(Kind.TOKEN_ID, issuer.url, b"j")
                line = entries.sealed(Mark(Kind.TOKEN_ID, digest, time.time() + 3600))
            path.write_bytes(line + b"\n")
            served.body = line + b"\n"
            eventually(lambda: asked(server, token) == "revoked")
            assert server.feed.is_live
        finally:
            server.close()
