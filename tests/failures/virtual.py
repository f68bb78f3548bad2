"""Virtual time: flows run by the real drivers, with the clock moved instead of waited for.

What a flow asks the drivers for is passed on to them, but for three things: a wait lets the
clock go on and nobody sleep, background work is set aside until somebody does it, and the
store is a dictionary that may be down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import Background, Flow, StoreCommand, Wait


class VirtualClock:
    """Wall and monotonic time in one; time alone moves it."""

    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time


class VirtualStore:
    """As much of Redis as the fleet cache uses."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._kept: dict[Any, tuple[Any, float]] = {}
        self.down = False

    def do(self, name: Any, key: Any = "", *rest: Any) -> Any:
        """One command. Raises ``TransportError`` while it is down."""
        if self.down:
            raise TransportError("connect")
        value, until = self._kept.get(key, (b"", 0.0))
        there = self._clock() < until
        if name == "GETRANGE":
            return value if there else b""
        if name == "DEL":
            return int(self._kept.pop(key, None) is not None)
        assert name == "SET"
        if "NX" in rest and there:
            return None
        self._kept[key] = (rest[0], self._clock() + rest[rest.index("PX") + 1] / 1000)
        return True


class VirtualWorld:
    """What time and the store are to a server."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = VirtualStore(self.clock)
        #: Background work that nobody did yet.
        self.later: list[Callable[[], Flow[None]]] = []

    def within(self, flow: Flow[Any]) -> Generator[Any, Any, Any]:
        """The flow, in this world."""
        try:
            effect = next(flow)
            while True:
                try:
                    reply = yield from self._reply(effect)
                except BaseException as failure:  # noqa: BLE001 - as the drivers do
                    effect = flow.throw(failure)
                else:
                    effect = flow.send(reply)
        except StopIteration as done:
            return done.value
        finally:
            flow.close()

    def _reply(self, effect: Any) -> Generator[Any, Any, Any]:
        match effect:
            case Background(start):
                self.later.append(start)
                return None
            case StoreCommand(arguments=arguments):
                return self.store.do(*arguments)
            case Wait(landing, timeout):
                if not landing.done():
                    self.clock.time += max(timeout, 0.0)
                return landing.done()
            case _:
                return (yield effect)
