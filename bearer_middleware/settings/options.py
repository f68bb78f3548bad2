"""A table among the settings: as frozen as they are, and like them it travels between processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping


class Options(Mapping[str, object]):
    """A mapping that is not changed once it is made."""

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, object] | None = None) -> None:
        self._members = dict(members or {})

    def __getitem__(self, name: str) -> object:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __hash__(self) -> int:
        return hash(json.dumps(self._members, sort_keys=True, default=str))

    def __repr__(self) -> str:
        # Its names alone: what a table holds may be a secret of somebody's.
        return f"<Options {', '.join(self._members)}>"


#: Of a table that is not there.
NO_OPTIONS = Options()
