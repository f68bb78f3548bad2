"""Section 4 of the promises, rows about processes, loops, threads, and callers who leave."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from bearer_middleware.flow.drivers import run
from tests.contract.wire import bearer, converse, scope_of

ROOT = Path(__file__).parents[2]


# -- fork ----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork(stage: Any) -> None:
    """After import, after building, and after warm-up: children serve with connections of their
    own, and the parent goes on.
    """
    for warm in (False, True):
        stage.serve(http_timeout=10)
        known = stage.jwt(), stage.opaque()
        fresh = stage.jwt(), stage.opaque()
        if warm:
            assert [stage.ask(token) for token in known] == [200, 200]
        for _ in range(2):
            child = os.fork()
            if child == 0:
                code = 3
                try:
                    stage.abandon_loop()
                    code = [stage.ask(token) for token in (*known, *fresh, "bad")] != [
                        *[200] * 4,
                        401,
                    ]
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [stage.ask(token) for token in (*known, *fresh)] == [200] * 4


# -- event loops, threads, greenlets -------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of loops that nobody closed in order
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_event_loop_change(stage: Any) -> None:
    """``asyncio.run`` again and again, with blocking code between: nothing is bound to a loop."""
    for number in range(8):
        assert stage.ask(stage.jwt()) == stage.ask(stage.opaque()) == 200
        if number % 2:
            stage.run(stage.server.aclose())
        stage.new_loop()
        value = [b"Bearer " + stage.opaque().encode()]
        assert run(stage.server.authenticate(value), stage.server.transport) is not None
    assert len(stage.server.transport._loops) <= 1
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("world", ["asgi"])  # threads do not end in the middle
def test_a_loop_that_dies_in_the_middle(stage: Any) -> None:
    """What it had under way is begun again by others."""
    stage.serve(http_timeout=5)
    stage.issuer.fail("introspection", delay=30, times=1)
    token = stage.opaque()
    stage.start(token)
    stage.settle(lambda: stage.asked() == 1)
    stage.new_loop()
    assert stage.ask(token) == 200
    gc.collect()


def test_threads(stage: Any) -> None:
    """Changing places as often as they can: no answer is another's."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        stage.serve(http_timeout=20, cache_size=16)
        names = [f"user-{number}" for number in range(40)]
        tokens = {stage.opaque(sub=name): name for name in names[:20]}
        tokens |= {stage.jwt(sub=name): name for name in names[20:]}
        wrong: list[Any] = []

        def visit(seed: int) -> None:
            shown = random.Random(seed).choices(list(tokens), k=60)
            for token in shown:
                reply = stage.apart(token)
                if (reply.status, reply.json) != (200, tokens[token]):
                    wrong.append(reply)

        threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []
    finally:
        sys.setswitchinterval(before)


GEVENT = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent, json, sys
from bearer_middleware import WSGIBearerMiddleware
from bearer_middleware.testing import Issuer
with Issuer().serve() as issuer:
    def application(environ, start):
        start("200 OK", [])
        return [environ["bearer_middleware.identity"].subject.encode()]
    app = WSGIBearerMiddleware(application, **issuer.settings(http_timeout=20))
    def ask(token):
        said = []
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
        environ["HTTP_AUTHORIZATION"] = "Bearer " + token
        app(environ, lambda status, headers: said.append(int(status[:3])))
        return said[0]
    issuer.fail("introspection", delay=0.2)
    tokens = [issuer.opaque() for _ in range(5)] * 20
    jobs = [gevent.spawn(ask, token) for token in tokens]
    doomed = gevent.spawn(ask, tokens[0])
    gevent.sleep(0.05)
    doomed.kill()
    jobs += [gevent.spawn(ask, issuer.jwt()) for _ in range(20)]
    gevent.joinall(jobs, timeout=60)
    print({job.value for job in jobs}, issuer.requests["introspection"])
"""


@pytest.mark.needs("gevent")
def test_gevent() -> None:
    """Two hundred greenlets, and one that is killed: each token is asked about once. A world of
    WSGI alone.
    """
    ended = subprocess.run(
        [sys.executable, "-c", GEVENT],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.stdout.strip() == "{200} 5", ended


# -- callers who leave ---------------------------------------------------------------------


def test_client_disconnect(stage: Any) -> None:
    """The first of ten leaves; the others are answered by the same exchange or the next, and
    nothing of it stays.
    """
    stage.serve(http_timeout=10)
    stage.issuer.fail("introspection", delay=0.3)
    token = stage.opaque()
    if stage.world == "wsgi":  # a thread does not notice; all get the one answer
        assert stage.together([token] * 10) == [200] * 10
        assert stage.asked() == 1
        return

    async def crowd() -> list[Any]:
        request = {"type": "http.request", "body": b"", "more_body": False}
        callers = [
            asyncio.create_task(converse(stage.app, scope_of("/", bearer(token)), [request]))
            for _ in range(10)
        ]
        await asyncio.sleep(0.1)
        callers[0].cancel()
        return await asyncio.gather(*callers, return_exceptions=True)

    first, *others = stage.run(crowd())
    assert isinstance(first, asyncio.CancelledError)
    assert [messages[0]["status"] for messages in others] == [200] * 9
    assert stage.asked() <= 2
    assert not stage.server._answers._flights._flights


# -- memory --------------------------------------------------------------------------------


def test_memory_pressure(stage: Any) -> None:
    """Thirty thousand random tokens of all kinds: what is remembered is bounded by number."""
    server = stage.serve(cache_size=500)
    good = [stage.opaque() for _ in range(50)] + [stage.jwt() for _ in range(50)]
    head, body, signature = stage.jwt().split(".")
    chance = random.Random(1)

    def flood(count: int) -> None:
        for number in range(count):
            if number % 100 == 0:
                stage.ask(chance.choice(good))
            text = f"{chance.getrandbits(128):032x}"
            stage.identify(text if number % 2 else f"{head}.{body}.{text}{signature[32:]}")
            if number % 200 == 0:
                stage.clock.advance(4)
                stage.ask(text)

    flood(3_000)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        flood(27_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000
    memory = server.memory
    assert max(len(memory.verified), len(memory.introspected)) <= 500
    assert len(memory.refusals._known) <= 500
    assert [stage.ask(token) for token in good] == [200] * 100
