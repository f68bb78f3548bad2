"""Which row of the table speaks for a request."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearer_middleware import ConfigError, Settings
from bearer_middleware.policy.routes import LONGEST_PARAMETER, RouteTable
from bearer_middleware.settings.routes import Route, routes
from bearer_middleware.testing import Issuer

TABLE = RouteTable(
    routes(
        [
            {"method": "GET", "path": "/"},
            {"method": "GET", "path": "/todos"},
            {"method": "GET", "path": "/todos/mine"},
            {"method": "PUT", "path": "/todos/{id}"},
            {"method": "GET", "path": "/todos/{id}"},
            {"method": "*", "path": "/todos/{id}/notes/{note}"},
            {"method": "GET", "path": "/todos/late"},
            {"method": "GET", "path": "/files/{rest:path}"},
            {"method": "POST", "path": "/below/*"},
            {"method": "GET", "path": "/django/"},
            {"method": "GET", "path": "/django/{id}/"},
        ]
    )
)

FOUND: list[tuple[str, str, str, dict[str, str]]] = [
    ("GET", "/", "/", {}),
    ("GET", "/todos", "/todos", {}),
    ("HEAD", "/todos", "/todos", {}),
    ("GET", "/todos/mine", "/todos/mine", {}),
    ("PUT", "/todos/mine", "/todos/{id}", {"id": "mine"}),
    ("GET", "/todos/late", "/todos/{id}", {"id": "late"}),
    ("GET", "/todos/a:b", "/todos/{id}", {"id": "a:b"}),
    ("GET", "/todos/{id}", "/todos/{id}", {"id": "{id}"}),
    ("GET", "/todos/1;x=2", "/todos/{id}", {"id": "1;x=2"}),
    ("GET", "/todos/é", "/todos/{id}", {"id": "é"}),
    ("GET", "/todos/%2e%2e", "/todos/{id}", {"id": "%2e%2e"}),
    ("GET", "/todos/...", "/todos/{id}", {"id": "..."}),
    ("DELETE", "/todos/1/notes/2", "/todos/{id}/notes/{note}", {"id": "1", "note": "2"}),
    ("GET", "/files/a/b", "/files/{rest:path}", {"rest": "a/b"}),
    ("POST", "/below/a/b", "/below/*", {}),
    ("GET", "/django/", "/django/", {}),
    ("GET", "/django/1/", "/django/{id}/", {"id": "1"}),
]

NOTHING = [
    ("GET", ""),
    ("GET", "todos"),
    ("GET", "//todos"),
    ("GET", "/todos/"),
    ("GET", "/todos//1"),
    ("GET", "/todos/."),
    ("GET", "/todos/.."),
    ("GET", "/todos/../todos"),
    ("GET", "/./todos"),
    ("GET", "/todos\\1"),
    ("GET", "/todos/a\\b"),
    ("GET", "/todos/a/b"),
    ("GET", "/TODOS"),
    ("GET", "/todos;x=1"),
    ("GET", "/todos/1\n"),
    ("GET", "/todos\n"),
    ("GET", "/todos/\x00"),
    ("GET", "/todos/\udcff"),
    ("GET", "/todos?x"),
    ("GET", "/todos/" + "a" * (LONGEST_PARAMETER + 1)),
    ("GET", "/files"),
    ("GET", "/files/"),
    ("GET", "/files/a/"),
    ("GET", "/files/a//b"),
    ("GET", "/files/" + "a/" * 2000 + "a"),
    ("POST", "/below"),
    ("POST", "/below/"),
    ("GET", "/django"),
    ("GET", "/django/1"),
    ("get", "/todos"),
    ("Get", "/todos/1/notes/2"),
    ("delete", "/todos/1/notes/2"),
    ("OPTIONS", "/todos"),
    ("POST", "/todos"),
    ("GETT", "/todos"),
    ("", "/todos"),
    ("A" * 99, "/todos/1/notes/2"),
    ("ſ", "/todos/1/notes/2"),
]


@pytest.mark.parametrize(("method", "path", "template", "parameters"), FOUND)
def test_found(method: str, path: str, template: str, parameters: dict[str, str]) -> None:
    """The first row of the table that matches, and what the path says as it stands there."""
    match = TABLE.match(method, path)
    assert match is not None
    assert (match.route.path, dict(match.parameters)) == (template, parameters)


@pytest.mark.parametrize(("method", "path"), NOTHING, ids=lambda value: ascii(value)[:30])
def test_not_found(method: str, path: str) -> None:
    """What is no route, and what could be read in two ways; methods are in capitals."""
    assert TABLE.match(method, path) is None


def test_a_root_of_all() -> None:
    """``/*`` is all there is."""
    table = RouteTable([Route(method="*", path="/*")])
    assert all(table.match("GET", path) for path in ("/", "/a/b"))
    assert not any(table.match("GET", path) for path in ("//", "/a/"))


def test_a_name_for_nothing() -> None:
    """``/{rest:path}`` is not for ``/``, and leaves it to the rows below."""
    named, root = Route(method="*", path="/{rest:path}"), Route(method="GET", path="/")
    match = RouteTable([named, root]).match("GET", "/")
    assert match is not None
    assert match.route is root
    assert RouteTable([named]).match("GET", "/") is None


def _slowly(table: list[Route], method: str, path: str) -> Route | None:
    """The first row that matches, one after the other."""
    parts = path[1:].split("/")
    for route in table:
        wanted = route.path[1:].split("/")
        if route.method not in (method, "*") or len(wanted) != len(parts):
            continue
        if all(w == p or (w.startswith("{") and p) for w, p in zip(wanted, parts, strict=True)):
            return route
    return None


@given(st.integers(0, 10**6))
def test_the_order_of_the_table(seed: int) -> None:
    """Is what a reader of it would expect, however it is looked up."""
    dice = random.Random(seed)
    words = ["a", "b", "{x}", "{y}"]
    table = [
        Route(
            method=dice.choice(["GET", "PUT", "*"]),
            path="/" + "/".join(dict.fromkeys(dice.choices(words, k=dice.randint(1, 4)))),
        )
        for _ in range(12)
    ]
    compiled = RouteTable(table)
    for _ in range(20):
        path = "/" + "/".join(dice.choices(["a", "b", "c"], k=dice.randint(1, 4)))
        method = dice.choice(["GET", "PUT", "DELETE"])
        match = compiled.match(method, path)
        assert (None if match is None else match.route) is _slowly(table, method, path)


@given(st.text(max_size=40), st.text(max_size=300))
def test_any_text(method: str, path: str) -> None:
    """Never raises, and what it finds has no way of its own to be read."""
    match = TABLE.match(method, "/todos/" + path)
    if match is not None and match.parameters:
        assert all(
            "\\" not in value and value not in (".", "..") for value in match.parameters.values()
        )


WRONG: list[tuple[Any, str]] = [
    ({"path": "/"}, "needs a method"),
    ({"method": "get", "path": "/"}, "method must be a method in capital letters"),
    ({"method": "GET", "path": "/a//b"}, "path must be segments"),
    ({"method": "GET", "path": "/a/*/"}, "path must be segments"),
    ({"method": "GET", "path": "/a/{r:path}/"}, "path must be segments"),
    ({"method": "GET", "path": "/a", "action": "read"}, "needs both action and resource"),
    ({"method": "GET", "path": "/a", "action": "r", "resource": "a:{id}"}, "not in its path"),
    ({"method": "GET", "path": "/a", "public": True, "scopes": "x"}, "is public"),
    ({"method": "GET", "path": "/a", "public": True, "max_age": 0}, "is public"),
    ({"method": "GET", "path": "/a%20b"}, "path must be segments"),
    ({"method": "GET", "path": "/a", "action": "r", "resource": "a:"}, "resource needs an id"),
    ({"method": "GET", "path": "/a", "surprise": 1}, "has an unknown member"),
    (
        {
            "method": "GET",
            "path": "/a",
            "action": "r",
            "resource": {"type": "a", "properties": {"o": "$user.x"}},
        },
        "$token.claim or $path.parameter",
    ),
    (
        {
            "method": "GET",
            "path": "/a",
            "action": "r",
            "resource": {"type": "a", "properties": {"o": "$path.x"}},
        },
        "not in its path",
    ),
]


@pytest.mark.parametrize(("row", "wrong"), WRONG, ids=[row[1] for row in WRONG])
def test_malformed_rows(row: Any, wrong: str) -> None:
    """Are told when the settings are made, all at once and by their number."""
    good = {"method": "GET", "path": "/good"}
    with pytest.raises(ConfigError) as error:
        Settings(**Issuer().settings(routes=[good, row, {"path": "/"}]))
    assert error.value.mistakes[0].startswith("BEARER_ROUTES: [[routes]] #2 ") or (
        "ROUTES" in error.value.mistakes[0]
    )
    assert wrong in error.value.mistakes[0]
    assert "[[routes]] #3 needs a method" in error.value.mistakes[0]


def test_malformed_rows_of_a_file(tmp_path: Any) -> None:
    """Are named by their line, too."""
    file = tmp_path / "bearer.toml"
    file.write_text(
        '# [[routes]] of ours\n[[routes]]\nmethod = "GET"\npath = "/a"\n\n'
        '[[ "routes" ]] # next\nmethod = "get"\npath = "/b"\n'
    )
    with pytest.raises(ConfigError, match=r"\[\[routes\]\] #2 \(line 6\) method must be"):
        Settings(**Issuer().settings(config_file=file))
    file.write_text('routes = [\n{method = "GET", path = "/a"},\n{method = "GET"}]\n')
    with pytest.raises(ConfigError, match=r"\[\[routes\]\] #2 needs a path"):
        Settings(**Issuer().settings(config_file=file))
