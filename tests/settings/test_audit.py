"""``BEARER_AUDIT``: the log, or a file that can be written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bearer_middleware.settings import Settings

Mistakes = Callable[..., list[str]]


def test_what_it_may_be(tmp_path: Path) -> None:
    """``log``, a file, or one that is not there yet; absent is none."""
    given = {"issuer": "https://as.example", "audience": "orders"}
    there = tmp_path / "there"
    there.touch()
    for value in ("log", str(there), str(tmp_path / "new"), "new-file-beside-us"):
        assert Settings(**given, audit=value).audit == value  # type: ignore[arg-type]
    assert Settings(**given, audit=there).audit == str(there)  # type: ignore[arg-type]
    assert Settings(**given).audit is None  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("value", ["/nowhere/at/all", "", "a\nb", 7, "x" * 5000])
def test_what_it_may_not_be(mistakes: Mistakes, value: object) -> None:
    """Is told when the settings are made, not at the first request."""
    (mistake,) = mistakes(audit=value)
    assert mistake.startswith("BEARER_AUDIT: ")


def test_a_directory(mistakes: Mistakes, tmp_path: Path) -> None:
    """Is no file."""
    (mistake,) = mistakes(audit=str(tmp_path))
    assert mistake == "BEARER_AUDIT: must be log, or name a file that can be written to"
