"""``bearer-middleware audit``: the trail read back."""

from __future__ import annotations

import io
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.__main__ import main


def event(**changes: Any) -> dict[str, Any]:
    """As it is written."""
    return {
        "schema": "bearer_middleware.access/1",
        "event_id": "01J",
        "time": "2026-11-23T21:40:41.755Z",
        "kind": "authorization",
        "outcome": "deny",
        "status": 403,
        "subject": {"type": "user", "id": "alice"},
        "action": "update",
        "resource": {"type": "todo", "id": "42"},
        "decision": {"pdp": "permit", "reasons": ["policy:owner"]},
        "request": {"method": "PUT", "route": "/todos/{id}", "ip": "203.0.113.7"},
    } | changes


def at(seconds_ago: float) -> str:
    """A time, as it is written."""
    return datetime.fromtimestamp(time.time() - seconds_ago, UTC).isoformat()


@pytest.fixture
def trail(tmp_path: Path) -> str:
    """A file of some events, and of what is none."""
    events = [
        event(),
        event(outcome="permit", status=200, subject={"id": "bob"}),
        event(resource={"type": "todo", "id": "7"}, time=at(600)),
        event(resource={"type": "note", "id": "42"}, outcome="indeterminate", time=at(60)),
        event(kind="authentication", subject=None, action=None, resource=None),
    ]
    lines = [json.dumps(one) for one in events]
    path = tmp_path / "audit.jsonl"
    path.write_text("\n".join([*lines[:2], "{half a li", "[]", '{"schema": "other"}', *lines[2:]]))
    return str(path)


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    """The lines of a command that goes well."""
    assert main(["audit", *argv]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_line_for_each(trail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What people read; what is no event is counted beside it."""
    assert main(["audit", trail]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == (
        "2026-11-23T21:40:41.755Z deny 403 alice update todo:42 (policy:owner) by permit "
        "PUT /todos/{id} from 203.0.113.7"
    )
    assert len(out.splitlines()) == 5
    assert err == "3 lines are no audit events, and were left out\n"


@pytest.mark.parametrize(
    ("argv", "number"),
    [
        (("--subject", "alice"), 3),
        (("--subject", "ali"), 0),
        (("--resource", "todo"), 3),
        (("--resource", "todo:42"), 2),
        (("--resource", "todo:"), 0),
        (("--outcome", "indeterminate"), 1),
        (("--outcome", "permit", "--subject", "alice"), 0),
        (("--since", "15m"), 2),
        (("--since", "120s"), 1),
        (("--since", "2026-11-23T21:40:41+00:00"), 5),
    ],
)
def test_filters(
    trail: str, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], number: int
) -> None:
    """By subject, resource, outcome and time; all that are given."""
    assert len(shown(capsys, trail, *argv)) == number


def test_as_json(trail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole events, one a line."""
    lines = shown(capsys, trail, "--json", "--subject", "bob")
    assert [json.loads(line)["status"] for line in lines] == [200]


def test_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is ``-``."""
    data = json.dumps(event()).encode() + b"\n\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert len(shown(capsys, "-")) == 1


def test_no_standard_input(
    trail: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it was closed, as some schedulers do, files are read and ``-`` is empty."""
    monkeypatch.setattr(sys, "stdin", None)
    assert len(shown(capsys, trail)) == 5
    assert shown(capsys, "-") == []


def test_whatever_is_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It paints no terminal, and stops nobody."""
    path = tmp_path / "odd"
    odd = event(subject={"id": "\x1b[31m\u202e\nforged"}, time=7, decision=[], request="x")
    rest = b"\xff\xfe\n" + b"[" * 5000 + b"\n" + b"x" * (3 << 20) + b"\n" + b"y" * (2 << 20)
    path.write_bytes(json.dumps(odd).encode() + b"\n" + rest)
    assert main(["audit", str(path), "--subject", "nobody"]) == 0
    assert main(["audit", str(path), "--since", "1h"]) == 0
    capsys.readouterr()
    assert main(["audit", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert out.isascii()
    assert "\x1b" not in out
    assert err.startswith("4 lines")


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is 1, and says why."""
    for name in (str(tmp_path / "none"), str(tmp_path), "a\0b"):
        assert main(["audit", name]) == 1
        assert "the file cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [[], ["--outcome", "maybe", "-"], ["--since", "soon", "-"], ["--since", "2026-11-23", "-"]],
)
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What is not understood is 2."""
    assert main(["audit", *argv]) == 2
    assert "usage:" in capsys.readouterr().err
