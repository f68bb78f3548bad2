"""The import, in fresh processes taken in turn, over ``import jwt``; and what it must not load."""

from __future__ import annotations

import os
import random
import subprocess
import sys

from harness import Ratio
from report import Row

_LAZY = ("httpx", "httpx2", "starlette", "requests", "anyio", "trio", "flask", "django", "fastapi")
# Paths that would mix libraries, and what would keep byte code from being written: an installer
# writes it for the others, so ours would alone be compiled anew each time.
_UNWANTED = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
_PROGRAM = """
import sys
sys.path.insert(0, {path!r})
sys.modules.update(orjson=None, pybase64=None)
import time
begun = time.process_time_ns()
import {name}
print(time.process_time_ns() - begun, *(name for name in {lazy!r} if name in sys.modules))
"""


def _import(name: str) -> tuple[int, list[str]]:
    """Nanoseconds of CPU, and the names from ``_LAZY`` that got loaded."""
    program = _PROGRAM.format(path=sys.path[1], name=name, lazy=_LAZY)
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in _UNWANTED},
    )
    took, *loaded = done.stdout.split()
    return int(took), loaded


async def rows(rounds: int) -> list[Row]:
    names = ["jwt", "bearer_middleware", "httpx", "starlette.applications"]
    times: dict[str, list[int]] = {name: [] for name in names}
    loaded = _import("bearer_middleware")[1]
    for name in names:
        _import(name)  # the byte code is written now
    for _ in range(max(rounds // 3, 10)):
        for name in random.sample(names, len(names)):
            times[name].append(_import(name)[0])

    def over(name: str) -> Ratio:
        return Ratio.of(a / b for a, b in zip(times[name], times["jwt"], strict=True))

    found = ", ".join(loaded) or "none of " + ", ".join(_LAZY[:4]) + " ..."
    return [
        Row(
            "import bearer_middleware",
            over("bearer_middleware"),
            "import jwt",
            1.15,
            peer=f"{over('httpx')} httpx, {over('starlette.applications')} starlette",
        ),
        Row("  clients and frameworks it loads", Ratio.of([len(loaded)]), "modules", 0, peer=found),
    ]
