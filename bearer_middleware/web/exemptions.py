"""Requests that need no token: exempt paths and CORS preflights.

A path is compared as the framework will route it: decoded, below the mount point, segment
by segment. One that could be read in two ways is never exempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Exemptions:
    """The rules of ``BEARER_EXEMPT``: ``[METHOD ]/path`` or ``[METHOD ]/prefix/*``, the paths of
    what the middleware answers itself, and what ``is_public`` by the table of routes.
    """

    __slots__ = ("_is_public", "_paths", "_prefixes")

    def __init__(
        self, rules: Iterable[str], is_public: Callable[[str, str], bool] | None = None
    ) -> None:
        self._is_public = is_public
        self._paths: dict[str, set[str]] = {}
        self._prefixes: dict[str, set[str]] = {}
        for rule in rules:
            method, path = parts_of(rule)
            place = self._prefixes if path.endswith("/*") else self._paths
            place.setdefault(path.removesuffix("*"), set()).add(method)

    def cover(self, method: str, path: str) -> bool:
        """May this request pass without a token?"""
        if self._is_public is not None and self._is_public(method, path):
            return True
        if _applies(self._paths.get(path), method):  # then it is as clear as the rule
            return True
        return _is_clear(path) and any(
            path.startswith(prefix) and _applies(methods, method)
            for prefix, methods in self._prefixes.items()
        )


def parts_of(rule: str) -> tuple[str, str]:
    """The method of a rule, ``*`` for any, and its path, in which there may be spaces, too."""
    method, slash, rest = rule.partition("/")
    return method.strip() or "*", slash + rest


def _applies(methods: set[str] | None, method: str) -> bool:
    if methods is None:
        return False
    return "*" in methods or method in methods or (method == "HEAD" and "GET" in methods)


def _is_clear(path: str) -> bool:
    if path == "/":
        return True
    segments = path.split("/")
    return (
        segments[0] == ""
        and "\\" not in path
        and not any(segment in ("", ".", "..") for segment in segments[1:])
    )


def below(root: str, path: str) -> str:
    """``path`` as seen from the mount point ``root``."""
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("/", ""):
        return path[len(root) :] or "/"
    return path
