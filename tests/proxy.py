"""A TCP proxy on a loopback port that does to a connection what networks do.

One thread with a loop of its own carries all connections; it ends with the block. What is said
of the weather holds at once, for connections that are open as well as for new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self

_BACKLOG = 512
_PIECE = 65_536
_RESET = struct.pack("ii", 1, 0)  # to linger for no time: what is closed is reset


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What happens to bytes on their way; nothing, unless it is said."""

    #: Seconds before each piece of an answer.
    latency: float = 0.0
    #: Bytes of an answer in a second.
    bandwidth: float | None = None
    #: An answer comes in pieces of so many bytes, with ``latency`` before each of them.
    slice: int | None = None
    #: Nothing passes, either way, and nobody is told: a cable that was pulled.
    blackhole: bool = False
    #: The connection is reset after so many bytes of answers, 0 as soon as anything is asked.
    reset_after: int | None = None
    #: The connection ends in good order after so many bytes of answers.
    close_after: int | None = None


FAIR = Weather()


class Proxy:
    """Carries what comes to ``port`` to another port of this machine."""

    def __init__(self, to: int = 0) -> None:
        #: Where the real server listens; may be said later.
        self.to = to
        self._weather = FAIR
        #: How many connections were accepted.
        self.connections = 0
        self._listener: asyncio.Server | None = None
        self._stuffing: list[socket.socket] = []
        self._carrying: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Of an HTTP server behind it."""
        return f"http://127.0.0.1:{self.port}"

    def set(self, **weather: Any) -> None:
        """This is the weather from now on."""
        self._do(self._change(Weather(**weather)))

    def refuse(self) -> None:
        """Nobody listens, and whoever was connected is not any more."""
        self._do(self._close())

    def deafen(self) -> None:
        """The port is open, and nobody accepts: connecting takes for ever."""
        self._do(self._deafen())

    def reset(self) -> None:
        """Reset every connection that is open; new ones fare well."""
        self._do(self._end_all(reset=True))

    def heal(self) -> None:
        """The sun shines."""
        self._do(self._heal())

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.port = 0
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    # -- in the thread of the loop -------------------------------------------------------

    async def _change(self, weather: Weather) -> None:
        self._weather = weather

    async def _open(self) -> None:
        # A port that was given back may be wanted again at once.
        listening = socket.create_server(("127.0.0.1", self.port), backlog=_BACKLOG)
        self.port = listening.getsockname()[1]
        self._listener = await asyncio.start_server(self._accepted, sock=listening)

    async def _close(self) -> None:
        for each in self._stuffing:
            each.close()
        self._stuffing = []
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._end_all(reset=False)

    async def _heal(self) -> None:
        self._weather = FAIR
        if self._listener is None:
            await self._close()
            await self._open()

    async def _deafen(self) -> None:
        await self._close()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen(0)
        self._stuffing.append(listening)
        for _ in range(4):  # the queue is full then, and who comes later is not answered
            caller = socket.socket()
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(("127.0.0.1", self.port))
            self._stuffing.append(caller)
        await asyncio.sleep(0.01)

    async def _end_all(self, *, reset: bool) -> None:
        carrying = [task for task in self._carrying if task is not asyncio.current_task()]
        for task in carrying:
            task.cancel("reset" if reset else "")
        await asyncio.gather(*carrying, return_exceptions=True)

    async def _accepted(self, reader: Any, writer: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        self.connections += 1
        writer.transport.set_write_buffer_limits(0)  # what is written has gone out
        reset, onward = False, None
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self.to)
            await self._carry(reader, writer, there, onward)
        except asyncio.CancelledError as ended:
            reset = "reset" in ended.args
        except _Reset:
            reset = True
        except OSError:
            reset = False
        finally:
            self._carrying.discard(task)
            if reset:
                here = writer.get_extra_info("socket")
                here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            for each in (writer, onward):
                if each is not None:
                    each.transport.abort()

    async def _carry(self, reader: Any, writer: Any, there: Any, onward: Any) -> None:
        """Until one of the two has nothing more to say."""
        ways = {
            asyncio.create_task(self._ask(reader, onward)),
            asyncio.create_task(self._answer(there, writer)),
        }
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for each in ways:
                each.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _ask(self, reader: Any, onward: Any) -> None:
        while piece := await reader.read(_PIECE):
            if self._weather.reset_after == 0:
                raise _Reset
            if not self._weather.blackhole:
                onward.write(piece)
                await onward.drain()

    async def _answer(self, there: Any, writer: Any) -> None:
        sent = 0
        while came := await there.read(_PIECE):
            while came and not self._weather.blackhole:
                size = self._weather.slice or _PIECE
                piece, came = came[:size], came[size:]
                sent += await self._pass_on(piece, writer, sent)
                if sent in (self._weather.reset_after, self._weather.close_after):
                    if self._weather.reset_after is not None:
                        raise _Reset
                    return

    async def _pass_on(self, piece: bytes, writer: Any, sent: int) -> int:
        """After its time, and no more than the connection is to live for."""
        weather = self._weather
        per_byte = 0.0 if weather.bandwidth is None else 1 / weather.bandwidth
        await asyncio.sleep(weather.latency + len(piece) * per_byte)
        limits = [n for n in (weather.reset_after, weather.close_after) if n is not None]
        piece = piece[: max(min(limits) - sent, 0)] if limits else piece
        writer.write(piece)
        await writer.drain()
        return len(piece)


class _Reset(Exception):
    """This connection ends with a reset."""


#: What may be done to a proxy, by toxiproxy's names where it has one.
TOXICS: dict[str, Callable[[Proxy], None]] = {
    "refused": Proxy.refuse,
    "not accepted": Proxy.deafen,
    "timeout (blackhole)": lambda proxy: proxy.set(blackhole=True),
    "latency": lambda proxy: proxy.set(latency=30.0),
    "bandwidth": lambda proxy: proxy.set(bandwidth=10.0, slice=1),
    "slicer (drip)": lambda proxy: proxy.set(slice=1, latency=0.05),
    "reset_peer": lambda proxy: proxy.set(reset_after=0),
    "reset in the answer": lambda proxy: proxy.set(reset_after=20),
    "limit_data": lambda proxy: proxy.set(close_after=20),
    "slow_close": lambda proxy: proxy.set(close_after=0),
}
