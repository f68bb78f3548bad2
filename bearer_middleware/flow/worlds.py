"""Which world the code runs in right now: asyncio or trio, and whether threads run at all."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any


def in_trio() -> bool:
    """Is this code run by trio? Found out without importing it."""
    # It may be there in part, while another thread imports it: httpx does when it is first used.
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    return lowlevel is not None and bool(lowlevel.in_trio_run())


def running_loop() -> Any:
    """What the clients of this loop belong to. Only inside of one."""
    if in_trio():
        import trio

        return trio.lowlevel.current_trio_token()
    import asyncio

    return asyncio.get_running_loop()


def has_ended(loop: Any) -> bool:
    """Will nothing run in this loop any more?"""
    if hasattr(loop, "is_closed"):
        return bool(loop.is_closed())
    try:
        loop.run_sync_soon(int)  # trio's token has no other way to tell
    except RuntimeError:
        return True
    return False


def forget_ended(kept: MutableMapping[Any, Any]) -> None:
    """A loop that ended without a word left something here, and it keeps the loop alive. Under a
    lock: nobody may change a mapping while it is gone through.
    """
    for loop in [loop for loop in kept if has_ended(loop)]:
        kept.pop(loop, None)


def threads_do_not_run() -> bool:
    """uWSGI without ``enable-threads`` never lets another thread have the interpreter."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and not ({"enable-threads", "threads"} & set(uwsgi.opt))
