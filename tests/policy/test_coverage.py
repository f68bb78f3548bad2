"""Rows that never count: found by their templates, and never by mistake."""

from __future__ import annotations

import itertools

import pytest

from bearer_middleware.policy.coverage import Covered, covered_rows
from bearer_middleware.policy.routes import RouteTable
from bearer_middleware.settings.routes import Route


def rows(*written: str) -> list[Route]:
    """Rows as ``METHOD path``."""
    pairs = (each.split() for each in written)
    return [Route(method=method, path=path) for method, path in pairs]


@pytest.mark.parametrize(
    ("first", "second", "covers"),
    [
        ("GET /a", "GET /a", True),
        ("* /a", "GET /a", True),
        ("GET /a", "* /a", False),
        ("GET /a", "HEAD /a", True),
        ("HEAD /a", "GET /a", False),
        ("GET /{x}", "GET /a", True),
        ("GET /a", "GET /{x}", False),
        ("GET /{x}/b", "GET /a/b", True),
        ("GET /{x}", "GET /a/b", False),
        ("GET /a/*", "GET /a", False),
        ("GET /a/*", "GET /a/b", True),
        ("GET /a/*", "GET /a/b/c/*", True),
        ("GET /a/{x}/*", "GET /a/*", False),
        ("GET /a/{rest:path}", "GET /a/{x}", True),
        ("GET /a/{x}", "GET /a/{rest:path}", False),
        ("GET /a/{x}", "GET /a/", False),
        ("GET /a/*", "GET /a/", False),
        ("GET /a/*", "GET /a/b/", False),
        ("GET /*", "GET /", True),
        ("GET /{rest:path}", "GET /", False),
        ("GET /{rest:path}", "GET /*", False),
        ("GET /*", "POST /a", False),
    ],
)
def test_two_rows(first: str, second: str, covers: bool) -> None:
    """Whether the first takes all that the second describes."""
    assert list(covered_rows(rows(first, second))) == [Covered(2, 1)] * covers


def test_the_first_of_several() -> None:
    """Whoever comes first is named."""
    found = list(covered_rows(rows("GET /a/b", "GET /a/{x}", "GET /{x}/{y}", "GET /a/b")))
    assert found == [Covered(4, 1)]


def test_as_the_table_has_it() -> None:
    """What is said never to count never does, for all short paths over two words."""
    parts = ("a", "b", "{x}", "{x:path}", "*", "")
    paths = {
        "/" + "/".join(each)
        for size in (1, 2)
        for each in itertools.product(parts, repeat=size)
        if not any("*" in one or ":" in one for one in each[:-1]) and "" not in each[:-1]
    } - {"/{x}/{x}", "/{x}/{x:path}"}
    asked = [
        "/" + "/".join(e)
        for n in (1, 2, 3)
        for e in itertools.product(("a", "b", "c", ""), repeat=n)
    ]
    for one, other in itertools.product(sorted(paths), repeat=2):
        written = [Route(method="GET", path=one), Route(method="GET", path=other)]
        table, alone = RouteTable(written), RouteTable(written[1:])
        taken = [path for path in asked if alone.match("GET", path)]
        reached = any((m := table.match("GET", path)) and m.route is written[1] for path in taken)
        assert bool(list(covered_rows(written))) is not reached, (one, other)
