"""The same line again and again is written once a second, with how many there were."""

from __future__ import annotations

from collections.abc import Callable, Hashable

_SECONDS = 1.0
_MOST = 512


class Sampling:
    """Says which lines to write. ``monotonic`` tells seconds."""

    __slots__ = ("_lines", "_monotonic")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        #: By line: until when it is not written again, and how often that was so.
        self._lines: dict[Hashable, tuple[float, int]] = {}

    def passes(self, line: Hashable) -> int | None:
        """How many of this line were suppressed since the last one, or ``None``: so is this.
        Its caller holds a lock.
        """
        now = self._monotonic()
        until, suppressed = self._lines.get(line, (now, 0))
        if now < until:
            self._lines[line] = (until, suppressed + 1)
            return None
        if len(self._lines) >= _MOST:
            self._lines.clear()
        self._lines[line] = (now + _SECONDS, 0)
        return suppressed
