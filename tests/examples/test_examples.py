"""Every example is started as its README says, and called."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from bearer_middleware.testing import Issuer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ALL = sorted(path.stem for path in EXAMPLES.glob("*.py"))
TODOS = ["todo_fastapi", "todo_flask"]
OVER_HTTP = [name for name in ALL if name not in ("websocket_app", "mcp_resource", *TODOS)]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """The one authorization server of all the examples."""
    with Issuer().serve() as issuer:
        yield issuer


def _command(name: str) -> str:
    """How the README says to serve an example."""
    lines = (EXAMPLES / "README.md").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"| `{name}.py`")]
    return line.split("|")[2].strip(" `")


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def _environ(settings: dict[str, Any], **variables: str) -> dict[str, str]:
    """What a shell would have: the variables of our settings and the way to our package."""
    texts = {
        f"BEARER_{name.upper()}": "true" if value is True else str(value)
        for name, value in settings.items()
    }
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **texts, **variables}


@contextmanager
def _running(words: list[str], environ: dict[str, str], port: int, log: Path) -> Iterator[None]:
    """A process that is gone afterwards, and showed no traceback."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environ, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _until_it_listens(port, process, log)
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


def _until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    pytest.fail(f"{process.args} ended: {log.read_text()[:2000]}")


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _talk(url: str, issuer: Issuer) -> None:
    """The identity, the challenge and the missing scope, for either kind of token."""
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        nobody = client.get("/")
        assert (nobody.status_code, nobody.headers["www-authenticate"]) == (
            401,
            'Bearer realm="api"',
        )
        for mint in (issuer.jwt, issuer.opaque):
            reader, writer = _bearer(mint()), _bearer(mint(sub="bob", scope="read write"))
            answer = client.get("/", headers=reader)
            assert answer.status_code == 200
            assert answer.json() == {"subject": "alice", "scopes": ["read"]}
            answer = client.get("/write", headers=reader)
            assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
            assert answer.headers["content-type"] == "application/problem+json"
            assert 'scope="write"' in answer.headers["www-authenticate"]
            answer = client.get("/write", headers=writer)
            assert (answer.status_code, answer.json()) == (200, {"written by": "bob"})


@pytest.mark.needs("uvicorn", "django", "fastapi", "flask")
@pytest.mark.parametrize("name", OVER_HTTP)
def test_example(name, issuer, tmp_path):
    """``python examples/NAME.py``, configured by variables alone."""
    port = _free_port()
    environ = _environ(issuer.settings(), PORT=str(port))
    words = [sys.executable, f"examples/{name}.py"]
    with _running(words, environ, port, tmp_path / "log"):
        _talk(f"http://127.0.0.1:{port}", issuer)


@pytest.mark.needs("uvicorn", "waitress", "django", "fastapi", "flask")
@pytest.mark.parametrize("name", OVER_HTTP)
def test_example_in_a_server(name, issuer, tmp_path):
    """Found by a server under the name that the README gives."""
    port = _free_port()
    server, *options, target = _command(name).split()
    if server == "uvicorn":
        words = [server, *options, "--port", str(port), target]
    else:  # gunicorn; waitress takes the same names, and less time
        words = ["waitress", f"--listen=127.0.0.1:{port}", target]
    environ = _environ(issuer.settings())
    environ["PYTHONPATH"] += os.pathsep + str(EXAMPLES)
    with _running([sys.executable, "-m", *words], environ, port, tmp_path / "log"):
        _talk(f"http://127.0.0.1:{port}", issuer)


@pytest.mark.needs("uvicorn")
def test_revoking_example(issuer, tmp_path):
    """Both kinds of token of one user die, and those of others live."""
    port = _free_port()
    environ = _environ(issuer.settings(), PORT=str(port))
    words = [sys.executable, "examples/revoking_app.py"]
    with (
        _running(words, environ, port, tmp_path / "log"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        hers = [_bearer(mint(iat=int(time.time()) - 60)) for mint in (issuer.jwt, issuer.opaque)]
        his = _bearer(issuer.jwt(sub="bob"))
        assert [client.get("/", headers=one).status_code for one in (*hers, his)] == [200] * 3
        assert client.delete("/users/alice/tokens", headers=his).status_code == 403
        admin = _bearer(issuer.jwt(sub="carol", scope="admin"))
        assert client.delete("/users/alice/tokens", headers=admin).status_code == 204
        statuses = [client.get("/", headers=one).status_code for one in (*hers, his)]
        assert statuses == [401, 401, 200]
        health = client.get("/healthz")
        assert (health.status_code, health.json()["ready"]) == (200, True)


def _until(wanted: Any, got: Callable[[], Any]) -> Any:
    """What there was last: as soon as it is what is wanted, and after half a minute anyway."""
    deadline = time.monotonic() + 30
    while (last := got()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return last


@pytest.mark.needs("uvicorn", "fastapi", "flask")
@pytest.mark.parametrize("name", TODOS)
def test_todo_example(name, issuer, tmp_path):
    """AZ-1 AZ-2: alice becomes an editor and a viewer again, in the policy alone, while her JWT
    and her opaque token live on; the audit trail knows of it.
    """
    port, policy, trail = _free_port(), tmp_path / "policy.toml", tmp_path / "audit.jsonl"
    viewer = (EXAMPLES / "todo_policy.toml").read_text()
    editor = viewer.replace('[subjects."user:alice"]\nroles = ["viewer"]', _EDITOR)
    assert editor != viewer
    policy.write_text(viewer)
    settings = issuer.settings(
        config_file=EXAMPLES / "todo_routes.toml", policy_file=policy, audit=trail
    )
    words = [sys.executable, f"examples/{name}.py"]
    with (
        _running(words, _environ(settings, PORT=str(port)), port, tmp_path / "log"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        tokens = [_bearer(mint()) for mint in (issuer.jwt, issuer.opaque)]

        def statuses(method: str, path: str) -> set[int]:
            return {client.request(method, path, headers=one).status_code for one in tokens}

        assert {client.get("/todos").status_code, *statuses("GET", "/elsewhere")} == {401, 403}
        for one in tokens:
            assert client.get("/todos", headers=one).json() == ["1", "2"]
        for text, wanted in ((viewer, {403}), (editor, {201}), (viewer, {403})):
            policy.write_text(text)
            assert _until(wanted, lambda: statuses("POST", "/todos")) == wanted
            assert statuses("PUT", "/todos/1") == ({200} if text == editor else {403})
            assert statuses("PUT", "/todos/2") | statuses("DELETE", "/todos/1") == {403}
        bob = _bearer(issuer.opaque(sub="bob"))
        assert client.delete("/todos/1", headers=bob).status_code == 200
        wanted = ["permit 200 bob delete todo:1 (role:admin)"]
        assert _until(wanted, lambda: _audited(trail, "--subject", "bob")) == wanted
    hers = _audited(trail, "--subject", "alice", "--resource", "todo")
    assert "not_applicable 403 alice create todo:* (no_rule)" in hers
    assert "permit 200 alice create todo:* (role:editor)" in hers
    assert "permit 200 alice update todo:1 (owners)" in hers
    assert "not_applicable 403 alice delete todo:1 (no_rule)" in hers


_EDITOR = '[subjects."user:alice"]\nroles = ["editor"]'


def _audited(trail: Path, *options: str) -> list[str]:
    """What `bearer-middleware audit` prints, without the time and the request."""
    words = [sys.executable, "-m", "bearer_middleware", "audit", str(trail), *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return [line.split(" ", 1)[1].partition(" by ")[0] for line in done.stdout.splitlines()]


def _call_tool(client: httpx.Client, url: str, token: str | None = None) -> httpx.Response:
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "whoami"}}
    return client.post(url, json=call, headers={} if token is None else _bearer(token))


@pytest.mark.needs("uvicorn")
def test_mcp_example(tmp_path):
    """PRM-5 ERR-11: knowing nothing but the address, by the challenge to the metadata, from there
    to the authorization server and its token endpoint, and with that token back.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    with (
        Issuer(audience=url).serve() as issuer,
        httpx.Client(trust_env=False, timeout=30) as client,
        _running(
            [sys.executable, "examples/mcp_resource.py"],
            _environ(issuer.settings(resource=url), PORT=str(port)),
            port,
            tmp_path / "log",
        ),
    ):
        refused = _call_tool(client, url)
        challenge = refused.headers["www-authenticate"]
        told = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        assert (refused.status_code, told["scope"]) == (401, "mcp:read")
        resource = client.get(told["resource_metadata"]).json()
        assert resource["resource"] == url
        assert resource["scopes_supported"] == ["mcp:read", "mcp:write"]
        [authority] = resource["authorization_servers"]
        server = client.get(f"{authority}/.well-known/oauth-authorization-server").json()
        form = {"grant_type": "client_credentials", "scope": "mcp:write", "resource": url}
        ours = (issuer.client_id, issuer.client_secret)
        token = client.post(server["token_endpoint"], data=form, auth=ours).json()["access_token"]
        answer = _call_tool(client, url, token)
        assert (answer.status_code, answer.json()["id"]) == (200, 7)
        assert answer.json()["result"]["content"][0]["text"].endswith("by way of /mcp")
        lesser = _call_tool(client, url, issuer.jwt(scope="other"))
        assert lesser.status_code == 403
        assert 'scope="mcp:read"' in lesser.headers["www-authenticate"]


@pytest.mark.needs("uvicorn", "websockets")
def test_websocket_example(issuer, tmp_path):
    """Let in with an identity, refused by the answer that HTTP would get."""
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    port = _free_port()
    environ = _environ(issuer.settings(), PORT=str(port))
    words = [sys.executable, "examples/websocket_app.py"]
    with _running(words, environ, port, tmp_path / "log"):
        url, reader = f"ws://127.0.0.1:{port}", _bearer(issuer.jwt())
        with connect(f"{url}/", additional_headers=reader, proxy=None) as websocket:
            assert json.loads(websocket.recv()) == {"subject": "alice", "scopes": ["read"]}
        for path, headers, status in (("/", {}, 401), ("/write", reader, 403)):
            with pytest.raises(InvalidStatus) as refused:
                connect(url + path, additional_headers=headers, proxy=None)
            response = refused.value.response
            assert response.status_code == status
            assert response.headers["www-authenticate"].startswith('Bearer realm="api"')
        writer = _bearer(issuer.jwt(sub="bob", scope="write"))
        with connect(f"{url}/write", additional_headers=writer, proxy=None) as websocket:
            assert json.loads(websocket.recv()) == {"written by": "bob"}


@pytest.mark.needs("uvicorn", "django", "fastapi", "flask")
@pytest.mark.parametrize("name", ALL)
def test_example_without_settings(name):
    """It does not start, and says which variables it wants."""
    ended = subprocess.run(
        [sys.executable, f"examples/{name}.py"],
        cwd=ROOT,
        env=_environ({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "BEARER_ISSUER" in ended.stderr
    assert "BEARER_AUDIENCE" in ended.stderr


def test_every_example_stands_in_the_readme():
    """And nothing else does."""
    readme = (EXAMPLES / "README.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)\.py`", readme, re.MULTILINE)) == ALL
