#!/usr/bin/env python3
"""Measures the library and its peers: ``run.py [group ...] [--rounds N] [--json]``.

Makes ``benchmarks/.venv`` with the pinned peers at its first run. Each group of cases runs in
a process of its own, without the ``speed`` extra unless that is what it measures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
GROUPS = {
    "requests": "whole requests: remembered tokens, tokens verified afresh, the peers",
    "afresh": "a JWT verified afresh, by algorithm",
    "afresh_speed": "the same with orjson and pybase64",
    "refusals": "what is refused, and how cheaply",
    "flood": "5,000 random tokens a second: who is served, who is asked",
    "policy": "enforcement beside the decision point's own time",
    "shared": "a hit in the shared cache, against introspection",
    "storm": "200 callers with one opaque token",
    "memory": "bytes per remembered token, garbage collection, the worst put",
    "serving": "Starlette under uvicorn",
    "importing": "the time of the import",
    "policy_engines": "decisions in process: the local policy, the engines over their bare calls",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("groups", nargs="*", metavar="group", help=", ".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=60, help="more rounds, surer medians")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.groups) - GROUPS.keys()
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    if options.child:
        _measure(options.groups[0], options.rounds)
    else:
        _measure_all(options.groups or list(GROUPS), options.rounds, as_json=options.json)


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


def _measure_all(groups: Sequence[str], rounds: int, *, as_json: bool) -> None:
    from report import as_table, from_json

    python = _python()
    found: list[dict[str, Any]] = []
    for name in groups:
        print(f"{name}: {GROUPS[name]}", file=sys.stderr, flush=True)
        command = [python, __file__, name, "--child", "--rounds", str(rounds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            print(f"{name}: FAILED", file=sys.stderr)
            continue
        found += json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1) if as_json else as_table(from_json(found)))


def _python() -> str:
    """The interpreter of ``benchmarks/.venv``, or ``BENCH_PYTHON``."""
    if "BENCH_PYTHON" in os.environ:
        return os.environ["BENCH_PYTHON"]
    python, wanted = VENV / "bin" / "python", HERE / "requirements.txt"
    mark = VENV / "installed"
    if not mark.exists() or mark.stat().st_mtime < wanted.stat().st_mtime:
        venv.create(VENV, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--requirement", wanted]
        subprocess.run(install, check=True)
        mark.touch()
    return str(python)


def _measure(name: str, rounds: int) -> None:
    """In a child: one group, its rows as JSON in the last line of the output."""
    library = os.environ.get("BENCH_LIBRARY", str(HERE.parent))
    sys.path.insert(1, library)
    if name != "afresh_speed":
        sys.modules.update(orjson=None, pybase64=None)  # as if they were not installed
    from report import as_json

    group = importlib.import_module(f"cases.{name}")
    print(json.dumps(as_json(_rows(group, rounds))))


def _rows(group: ModuleType, rounds: int) -> list[Any]:
    import uvloop

    return uvloop.run(group.rows(rounds))


if __name__ == "__main__":
    main()
