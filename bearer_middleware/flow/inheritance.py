"""What a forked child makes of the small maps of its parent.

Another thread of the parent may have been in the middle of changing one: then it knows of an
order of things that are not there, and would stumble over that for ever once it is full.
"""

from __future__ import annotations

from typing import TypeVar

from cachetools import LRUCache

Name = TypeVar("Name")
Value = TypeVar("Value")


def inherited(
    parents: LRUCache[Name, Value], whole: LRUCache[Name, Value]
) -> LRUCache[Name, Value]:
    """``whole``, an empty map, with all that is in the parent's."""
    for name, value in list(parents.items()):
        whole[name] = value
    return whole
