"""Policies that files hold: read and compiled when the server is built, renewed where they change.

The manner is that of secrets and keys (:mod:`bearer_middleware.flow.watched`): a file is looked
at once a second at most, one that became unusable leaves its old content serving, and that is
told once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.watched import Watched
from bearer_middleware.policy.point import Surroundings
from bearer_middleware.settings import files

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_MOST_BYTES = 4 * 1024 * 1024


class Held(Protocol[T_co]):
    """A compiled policy: the one that counts now."""

    def current(self) -> T_co: ...


class Given(Generic[T]):
    """A policy that came from Python, and stays."""

    __slots__ = ("_policy",)

    def __init__(self, policy: T) -> None:
        self._policy = policy

    def current(self) -> T:
        return self._policy


class InFiles(Generic[T]):
    """What ``compile_texts`` makes of the texts of files.

    ``sources`` are pairs of the setting that names a file, and its path. ``compile_texts`` takes
    the texts in that order and raises ``ValueError`` with words of ours. Raises ``ConfigError``.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, str]],
        compile_texts: Callable[..., T],
        surroundings: Surroundings,
    ) -> None:
        self._sources, self._compile = tuple(sources), compile_texts
        self._monotonic, self._note = surroundings.clock.monotonic, surroundings.events.note
        self._texts = self._read_first()
        try:
            first = self._compiled(self._texts)
        except ValueError as error:
            name, path = self._sources[0]
            raise ConfigError(f"{name}: {path}: {error}") from None
        self._policy = first
        names = ", ".join(name for name, _ in self._sources)
        paths = tuple(path for _, path in self._sources)
        self._watched = Watched(names, paths, self._renewed, first=first, monotonic=self._monotonic)

    def current(self) -> T:
        if self._monotonic() >= self._watched.due:
            event = self._watched.look()
            if self._watched.value is not None:
                self._policy = self._watched.value
            if event is not None:
                self._note(event)
        return self._policy

    def _renewed(self) -> T:
        texts = self._read()
        if texts == self._texts:  # at the first look, or written anew as it was
            return self._policy
        policy = self._compiled(texts)
        self._texts = texts
        return policy

    def _compiled(self, texts: tuple[str, ...]) -> T:
        try:
            return self._compile(*texts)
        except ValueError:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            # What no compiler should do; its words may quote the policy.
            raise ValueError(f"cannot be compiled: {type(error).__name__}") from None

    def _read_first(self) -> tuple[str, ...]:
        texts, mistakes = [], []
        for name, path in self._sources:
            try:
                texts.append(_text(path))
            except ValueError as error:
                mistakes.append(f"{name}: {path}: {error}")
        if mistakes:
            raise ConfigError(mistakes)
        return tuple(texts)

    def _read(self) -> tuple[str, ...]:
        return tuple(_text(path) for _, path in self._sources)


def is_panic(error: BaseException) -> bool:
    """Did code in Rust panic? That is no ``Exception``, so that nobody catches it by accident."""
    return type(error).__module__ == "pyo3_runtime"


def version_of(*texts: str) -> str:
    """A short digest of a policy: the version that decisions name."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8) + data)
    return digest.hexdigest()[:12]


def line_at(text: str, place: int) -> int:
    """The number of the line of a place in ``text``."""
    return text.count("\n", 0, place) + 1


def _text(path: str) -> str:
    try:
        return files.contents(path, _MOST_BYTES).decode()
    except UnicodeDecodeError:
        raise ValueError("names a file that is not UTF-8 text") from None
