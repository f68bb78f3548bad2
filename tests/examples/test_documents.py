"""What the READMEs show is so: the first two minutes with a policy, and every link."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware import BearerMiddleware, ResourceServer, Settings
from tests.contract.wire import ISSUER, bearer, exchange

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "examples/README.md",
    *sorted((ROOT / "bearer_middleware").rglob("*.md")),
]


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_two_minutes_with_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AZ-1: policy and routes as they stand in the README, in the folder they are in."""
    section = (ROOT / "README.md").read_text().split("## May they?")[1]
    policy, table = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)[:2]
    (tmp_path / "policy.toml").write_text(policy)
    (tmp_path / "bearer.toml").write_text(table)
    monkeypatch.chdir(tmp_path)
    settings = Settings(**ISSUER.settings(config_file="bearer.toml"))
    server = ResourceServer(settings, transport=ISSUER.transport())
    app = BearerMiddleware(_app, server=server)

    def status(subject: str, path: str, method: str = "GET") -> int:
        return exchange(app, path, bearer(ISSUER.jwt(sub=subject)), method=method).status

    assert [status("alice", "/todos/1"), status("bob", "/todos/1")] == [204, 403]
    assert [status("bob", "/todos/1", "PUT"), status("alice", "/elsewhere")] == [204, 403]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """To a file, and to a heading that is in it."""
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text()):
        path, _, heading = link.partition("#")
        target = document if not path else (document.parent / path).resolve()
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert heading in {_anchor(title) for title in titles}, link


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_every_setting_stands_in_the_table_once() -> None:
    """In the README, whatever else tells of it."""
    readme = (ROOT / "README.md").read_text()
    table = re.findall(r"^\| ((?:`BEARER_\w+`(?:, )?)+) \|", readme, re.MULTILINE)
    names = [name for row in table for name in re.findall(r"BEARER_(\w+)", row)]
    assert sorted(names) == sorted(set(names))
    # A secret's file is told of above the table.
    secrets = {f"{name}_FILE" for name in names}
    known = {name.upper() for name in Settings.__dataclass_fields__}
    assert known - secrets - {"ISSUERS", "TOKEN_PREFIX"} <= {*names}
