"""A token from standard input, never from the command line: other users can read that."""

from __future__ import annotations

import re
from typing import TextIO

# More than any token that could be let in, and little enough to be read at once.
_MOST = 200_000
_HEADER_NAME = re.compile(rb"authorization[ \t]*:[ \t]*", re.IGNORECASE)


def authorization(stdin: TextIO) -> bytes | None:
    """The Authorization header on standard input, of which the token alone is enough.

    ``None`` where there is nothing, or nobody but a user at a keyboard who would wait.
    """
    if stdin.isatty():
        return None
    given = _bytes(stdin).strip()
    name = _HEADER_NAME.match(given)
    if name is not None:
        given = given[name.end() :]
    if not given:
        return None
    has_scheme = b" " in given or given.lower() == b"bearer"
    return given if has_scheme else b"Bearer " + given


def _bytes(stdin: TextIO) -> bytes:
    buffer = getattr(stdin, "buffer", None)
    if buffer is None:
        return stdin.read(_MOST).encode("utf-8", "surrogateescape")
    data: bytes = buffer.read(_MOST)
    return data
