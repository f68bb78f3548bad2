"""What audit is told: one record for every decision, and for every refusal of a route."""

from __future__ import annotations

from typing import Any

import pytest

from bearer_middleware.audit.record import Record
from bearer_middleware.errors import Reason, Unavailable
from bearer_middleware.policy.model import Obligation, Resource, indeterminate
from tests.policy.conftest import (
    ROUTES,
    NearPoint,
    Point,
    decision,
    over_wsgi,
    policed,
    token,
    wsgi_app,
)


class Book:
    """Keeps records."""

    def __init__(self, *, broken: bool = False) -> None:
        self.records: list[Record] = []
        self.broken = broken

    def record(self, record: Record) -> Any:
        yield from ()
        if self.broken:
            raise Unavailable(Reason.AUDIT_UNAVAILABLE, "full")
        self.records.append(record)


TOLD: list[tuple[str, Any, str, str, int]] = [
    ("permit", decision("permit"), "/todos/1", "permit", 200),
    ("deny", decision("deny", reasons=("r",)), "/todos/1", "deny", 403),
    ("hidden", decision("deny"), "/hidden", "deny", 404),
    ("not applicable", decision("not_applicable"), "/todos/1", "not_applicable", 403),
    ("indeterminate", indeterminate("timeout"), "/todos/1", "indeterminate", 503),
    ("fail open", indeterminate("timeout"), "/open/1", "fail_open", 200),
    ("obliged", decision("permit", obligations=(Obligation("x"),)), "/todos/1", "deny", 403),
    ("step up", decision("deny", max_age=1), "/todos/1", "deny", 401),
]
TABLE = [
    {**ROUTES[1], "path": "/open/{id}", "on_error": "allow"},
    {"method": "GET", "path": "/hidden", "hide": True},
    *ROUTES[:3],
]


@pytest.mark.parametrize("kind", [Point, NearPoint])
@pytest.mark.parametrize(
    ("said", "path", "told"), [(*row[1:3], row[3:]) for row in TOLD], ids=[row[0] for row in TOLD]
)
def test_decisions(around: Any, kind: Any, said: Any, path: str, told: tuple[str, int]) -> None:
    """Who, what, on what, and how it was answered."""
    book, (outcome, status) = Book(), told
    server = policed(kind(said), routes=TABLE, given={"audit": book})
    reply = around(server)(f"{path}?secret=1", token())
    assert reply.status == (204 if status == 200 else status)
    [record] = book.records
    assert (record.outcome, record.status, record.decision) == (outcome, status, said)
    assert record.facts.method == "GET"
    assert record.facts.route in {row["path"] for row in TABLE}
    assert record.identity is not None
    assert record.identity.subject == "alice"
    assert record.request is not None
    assert record.seconds >= 0
    assert (record.refusal is None) is (status == 200 and outcome == "permit")
    assert "secret" not in repr(record)


def test_refusals_of_routes(around: Any) -> None:
    """No route, no scope, no strong authentication: denied without a question."""
    book = Book()
    routes = [
        {"method": "GET", "path": "/s", "scopes": "admin"},
        {"method": "GET", "path": "/a", "acr": "loa3"},
    ]
    ask = around(policed(Point(), routes=routes, given={"audit": book}))
    assert [ask(path, token()).status for path in ("/no", "/s", "/a")] == [403, 403, 401]
    assert [(r.outcome, r.status, r.refusal and r.refusal.reason) for r in book.records] == [
        ("deny", 403, Reason.NO_ROUTE),
        ("deny", 403, Reason.INSUFFICIENT_SCOPE),
        ("deny", 401, Reason.INSUFFICIENT_AUTHENTICATION),
    ]
    assert all(record.request is None for record in book.records)


@pytest.mark.parametrize("path", ["/todos/1", "/open/1", "/nothing"])
@pytest.mark.parametrize("kind", [Point, NearPoint])
def test_audit_that_is_required(around: Any, kind: Any, path: str) -> None:
    """What cannot be recorded does not happen."""
    server = policed(kind(), routes=TABLE, given={"audit": Book(broken=True)})
    reply = around(server)(path, token())
    assert (reply.status, reply.header("retry-after")) == (503, "1")
    assert server.events.counts[Reason.AUDIT_UNAVAILABLE] == 1


def test_audit_that_raises(around: Any) -> None:
    """Anything else: nobody gets in either, and it is no 500."""

    class Broken(Book):
        def record(self, record: Record) -> Any:
            raise RuntimeError

    server = policed(Point(), routes=TABLE, given={"audit": Broken()})
    assert around(server)("/todos/1", token()).status == 503


@pytest.mark.parametrize("kind", ["raises", "required"])
@pytest.mark.parametrize("ask", ["permitted", "require", "filter", "decide"])
def test_handlers_are_audited_as_well(kind: str, ask: str) -> None:
    """What cannot be recorded is refused there, too, and told once."""

    class Broken(Book):
        def record(self, record: Record) -> Any:
            raise RuntimeError

    def app(environ: Any, start_response: Any) -> list[bytes]:
        authorizer = environ["bearer_middleware.authorizer"]
        if ask == "filter":
            authorizer.filter("read", [1, 2], key=lambda number: f"todo:{number}")
        else:
            getattr(authorizer, ask)("read", "todo:1")
        return wsgi_app(environ, start_response)

    book = Broken() if kind == "raises" else Book(broken=True)
    table = [{"method": "GET", "path": "/", "policy": False}]
    server = policed(Point(), routes=table, given={"audit": book})
    assert over_wsgi(server, app)("/", token()).status == 503
    reason = Reason.INTERNAL if kind == "raises" else Reason.AUDIT_UNAVAILABLE
    assert server.events.counts[reason] == 1


def asked_by_handler(ask: str, what: Resource, book: Book, path: str = "/") -> int:
    """The status where a handler asks about this."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        authorizer = environ["bearer_middleware.authorizer"]
        if ask == "filter":
            assert authorizer.filter("read", [what, "todo:1"], key=lambda each: each) == ["todo:1"]
        else:
            getattr(authorizer, ask)("read", what)
        return wsgi_app(environ, start_response)

    table = [{"method": "GET", "path": "/", "policy": False}, {**ROUTES[3], "path": "/public"}]
    ask_app = over_wsgi(policed(Point(), routes=table, given={"audit": book}), app)
    return ask_app(path, token() if path == "/" else []).status


@pytest.mark.parametrize("what", [Resource("todo", ""), Resource("todo", "1" * 3000)])
@pytest.mark.parametrize("ask", ["permitted", "require", "filter"])
def test_denials_without_a_question(ask: str, what: Resource) -> None:
    """About nothing nobody has to be asked, and yet it is denied, which audit is told."""
    book = Book()
    assert asked_by_handler(ask, what, book) == (403 if ask == "require" else 204)
    record = book.records[0]
    assert (record.outcome, record.status, record.request) == ("deny", 403, None)
    assert record.identity is not None
    assert record.decision is not None
    assert record.decision.reasons == ("no_question",)


def test_a_handler_that_wants_a_token() -> None:
    """Of whoever has none that is a refused authentication."""
    book = Book()
    assert asked_by_handler("require", Resource("todo", "1"), book, "/public") == 401
    [record] = book.records
    assert (record.outcome, record.status, record.identity) == ("deny", 401, None)
