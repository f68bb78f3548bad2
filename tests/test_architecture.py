"""The laws of the house: who imports whom, where ``async`` may stand, how large things get."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bearer_middleware"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(file.relative_to(PACKAGE)) for file in FILES]

#: From the ground up. A room may import from its own floor and from those before it.
FLOORS = (
    {"errors", "flow"},
    {"tokens"},
    {"settings"},
    {"issuer", "access"},
    {"memory", "revocation"},
    {"policy", "audit"},
    {"routing"},
    {"short_way", "health", "telemetry"},
    {"resource_server"},
    {"web"},
    {"testing"},
    {"commands", "__main__"},
)
#: ``testing`` builds on the flows alone: an authorization server is no resource server.
TESTING_USES = {"flow", "testing"}
ASYNC_PLACES = ("flow/drivers.py", "flow/transport.py", "flow/store.py", "web/")
FRAMEWORKS = ("starlette", "fastapi", "django", "flask")
CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2")
STORE_CLIENTS = ("redis", "valkey")


def floor_of(module: str) -> int:
    """On which floor a room is."""
    return next(number for number, rooms in enumerate(FLOORS) if module in rooms)


def room_of(file: Path) -> str:
    """The first part of its path."""
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that is imported, wherever that stands, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or "", node.lineno


def parsed(file: Path) -> ast.Module:
    """Its syntax tree."""
    return ast.parse(file.read_text())


def each_file(*, but: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """One test for each file, but for those that begin so."""
    files = [file for file, name in zip(FILES, NAMES, strict=True) if not name.startswith(but)]
    return pytest.mark.parametrize("file", files, ids=lambda file: str(file.relative_to(PACKAGE)))


@each_file()
def test_imports_run_only_downwards(file: Path) -> None:
    """From a room to one on its own floor or below; the package's names are for users."""
    if file == PACKAGE / "__init__.py":
        return
    here = room_of(file)
    upwards = [
        f"line {line}: {name}"
        for name, line in imports(parsed(file))
        if name.split(".")[0] == "bearer_middleware"
        and (name == "bearer_middleware" or floor_of(name.split(".")[1]) > floor_of(here))
    ]
    assert upwards == []


@each_file()
def test_rooms_of_one_floor_keep_to_themselves(file: Path) -> None:
    """``flow`` may know errors; ``issuer`` and ``access`` do not know each other."""
    here = room_of(file)
    foreign = {"issuer": {"access"}, "access": {"issuer"}, "errors": {"flow"}}.get(here, set())
    named = {name.split(".")[1] for name, _ in imports(parsed(file)) if _is_ours(name)}
    assert named.isdisjoint(foreign)


def _is_ours(name: str) -> bool:
    return name.startswith("bearer_middleware.")


def test_testing_uses_little() -> None:
    """What judges the library is not made of it."""
    for file in (PACKAGE / "testing").glob("*.py"):
        named = {name.split(".")[1] for name, _ in imports(parsed(file)) if _is_ours(name)}
        assert named <= TESTING_USES, file.name


@each_file(but=ASYNC_PLACES)
def test_async_stands_only_where_worlds_meet(file: Path) -> None:
    """Logic is flows: no ``async``, no ``await``."""
    kinds = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    lines = [node.lineno for node in ast.walk(parsed(file)) if isinstance(node, kinds)]
    assert lines == []


@each_file(but=ASYNC_PLACES)
def test_async_libraries_are_imported_only_where_worlds_meet(file: Path) -> None:
    """The same for what they are made of; ``testing`` may sleep with anyio, the demo may serve."""
    allowed = {"testing/inprocess.py": {"anyio"}}.get(str(file.relative_to(PACKAGE)), set())
    if room_of(file) in ("commands", "__main__"):
        allowed = {"asyncio", "anyio"}
    if file == PACKAGE / "flow" / "worlds.py":
        allowed = {"asyncio", "trio"}
    named = {name.split(".")[0] for name, _ in imports(parsed(file))}
    assert named & {"asyncio", "anyio", "trio", "gevent"} <= allowed


@each_file()
def test_a_framework_is_imported_only_in_its_adapter(file: Path) -> None:
    """FastAPI is made of Starlette, so its adapter may know both."""
    own = {"fastapi": {"fastapi", "starlette"}}.get(file.stem, {file.stem})
    own = own if file.parent == PACKAGE / "web" else set()
    if file.parts[-1] == "demo.py" or room_of(file) == "commands":
        own = {"starlette"}
    named = {name.split(".")[0] for name, _ in imports(parsed(file))}
    assert named & set(FRAMEWORKS) <= own


@each_file(but=("flow/transport.py",))
def test_the_http_client_is_imported_only_by_the_transport(file: Path) -> None:
    """So that its successor is a change of one file."""
    named = {name.split(".")[0] for name, _ in imports(parsed(file))}
    assert named.isdisjoint(CLIENTS)


@each_file(but=("flow/store_client.py",))
def test_the_store_client_is_imported_only_by_the_store(file: Path) -> None:
    """Which of the two it is, and how long it may take, is decided in one place."""
    named = {name.split(".")[0] for name, _ in imports(parsed(file))}
    assert named.isdisjoint(STORE_CLIENTS)


@each_file()
def test_no_file_is_long(file: Path) -> None:
    """Three hundred lines are what a reviewer keeps in mind."""
    assert len(file.read_text().splitlines()) <= 300


@each_file()
def test_no_function_is_long(file: Path) -> None:
    """Forty lines, with its docstring."""
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 40
    ]
    assert long == []


@pytest.mark.parametrize("name", ["utils", "helpers", "manager", "base", "common", "misc"])
def test_no_file_is_named_for_nothing(name: str) -> None:
    """A name says what is inside."""
    assert not [file for file in FILES if file.stem == name]


def loaded_by(program: str) -> set[str]:
    """The top-level modules that are there after running it in a process of its own."""
    show = "import sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}\n{show}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(ended.stdout.split())


def test_importing_the_package_loads_no_framework_and_no_client() -> None:
    """Flask users do not pay for Starlette, and nobody for a client before it is needed."""
    loaded = loaded_by("import bearer_middleware")
    unwanted = {
        *FRAMEWORKS,
        *CLIENTS,
        *STORE_CLIENTS,
        "jwt",
        "cryptography",
        "anyio",
        "trio",
        "asyncio",
        "ssl",
    }
    assert loaded.isdisjoint(unwanted)


def test_building_a_middleware_loads_no_framework_and_no_client() -> None:
    """Nor does the first request, as long as nobody has to be asked."""
    loaded = loaded_by("""
from bearer_middleware import WSGIBearerMiddleware
keywords = {"issuer": "https://as.test", "audience": "api"}
middleware = WSGIBearerMiddleware(lambda environ, start: [], **keywords)
middleware({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
""")
    assert loaded.isdisjoint({*FRAMEWORKS, *CLIENTS, *STORE_CLIENTS, "anyio", "trio", "asyncio"})


def test_the_pytest_plugin_costs_little() -> None:
    """Every pytest run of every user imports it."""
    loaded = loaded_by("import bearer_middleware.testing.pytest_plugin")
    assert loaded.isdisjoint({*FRAMEWORKS, *CLIENTS, "cryptography", "jwt"})
