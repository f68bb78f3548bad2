"""Every rule of authorization that is kept has a test that names it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
RULES = [
    *(f"AZ-{number}" for number in range(1, 11)),
    *("STEP-1", "STEP-2"),
    *(f"PRM-{number}" for number in range(1, 8)),
    *("ERR-5", "ERR-11", "ERR-12", "TOK-9", "TOK-15", "CLM-5", "DSC-2", "INT-8", "INT-13"),
]


def docstrings() -> Iterator[str]:
    """Of all test functions."""
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_test and node.name.startswith("test_"):
                yield ast.get_docstring(node) or ""


NAMED = frozenset(name for text in docstrings() for name in re.findall(r"[A-Z]+-[0-9]+", text))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_test(rule: str) -> None:
    """In its docstring: so that whoever changes one finds the other."""
    assert rule in NAMED
