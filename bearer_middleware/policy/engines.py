"""What engines in this process have in common: they are imported late, and never raise."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from importlib import import_module
from typing import Any, Generic, TypeVar

from bearer_middleware.errors import ConfigError
from bearer_middleware.flow.events import Event
from bearer_middleware.policy.kept import is_panic
from bearer_middleware.policy.model import AccessRequest, Decision, indeterminate
from bearer_middleware.policy.point import InProcess, Surroundings

T = TypeVar("T")


class Engine(InProcess):
    """A decision point that asks an engine of others: whatever that raises is an indeterminate
    decision, and the log says of which class it was.
    """

    def __init__(self, name: str, surroundings: Surroundings | None) -> None:
        self.name = name
        self._note = (surroundings or Surroundings()).events.note

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def judge(self, request: AccessRequest) -> Decision:
        try:
            return self._judge(request)
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            self._tell(type(error).__name__)
        return indeterminate("engine_failed", point=self.name)

    def _judge(self, request: AccessRequest) -> Decision:
        raise NotImplementedError

    def _tell(self, what: str) -> None:
        """Log what went wrong, in a word."""
        self._note(Event("policy_failed", logging.WARNING, detail=f"{self.name}: {what}"))


class Pool(Generic[T]):
    """Interpreters that serve one caller at a time: there are as many as callers at once. No
    lock is held, so none can be lost in a fork.
    """

    __slots__ = ("_idle", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._idle: deque[T] = deque()

    def take(self) -> T:
        """One for the caller alone, until it is given back. One that raised is not."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def give_back(self, taken: T) -> None:
        self._idle.append(taken)


def engine(policy: str, module: str, extra: str) -> Any:
    """The module of an engine. Raises ``ConfigError`` where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        wanted = f'pip install "bearer-middleware[{extra}]"'
        raise ConfigError(f"BEARER_POLICY={policy}: {module} is not installed: {wanted}") from None
