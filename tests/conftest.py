"""What every test shares: a clean environment, the marker `needs`, and forks."""

import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """No setting and no proxy of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith("BEARER_") or name.lower().endswith("_proxy"):
            del os.environ[name]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `needs("gevent", "node")` is skipped where one is missing; in CI it fails."""
    missing = [
        name for marker in item.iter_markers("needs") for name in marker.args if not _present(name)
    ]
    if missing:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"missing: {', '.join(missing)}")


def _present(name: str) -> bool:
    """A path below the checkout, a command, or a module."""
    if "/" in name:
        return (ROOT / name).exists()
    return shutil.which(name) is not None or importlib.util.find_spec(name) is not None


@pytest.fixture
def in_child() -> Callable[[Callable[[], bool]], int]:
    """Run something in a forked child, which never goes on with the tests; 0 is success, and a
    child that hangs is killed.
    """

    def fork(work: Callable[[], bool]) -> int:
        child = os.fork()
        if child == 0:
            code = 3
            try:
                code = 0 if work() else 1
            finally:
                os._exit(code)
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -1

    return fork
