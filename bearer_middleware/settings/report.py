"""All that is wrong, gathered so that it can be told at once."""

from __future__ import annotations

from bearer_middleware.settings.variables import VARIABLES


class Report:
    """Mistakes and warnings of one place: the top level, or an ``[[issuers]]`` table."""

    def __init__(self, table: int | None = None, above: Report | None = None) -> None:
        self.mistakes: list[str] = []
        self.warnings: list[str] = []
        #: The settings that are given in this very place, neither inherited nor default.
        self.said: set[str] = set()
        self._table = table
        self._unreadable: set[str] = set(above._unreadable) if above else set()

    @property
    def place(self) -> str:
        """Where this is, in the user's words."""
        return "the top level" if self._table is None else f"[[issuers]] #{self._table}"

    def name(self, keyword: str) -> str:
        """How the user writes a setting in this place."""
        return VARIABLES[keyword].name if self._table is None else keyword

    def label(self, keyword: str) -> str:
        """The setting together with its place."""
        prefix = "" if self._table is None else f"{self.place} "
        return f"{prefix}{self.name(keyword) if keyword in VARIABLES else keyword}"

    def unreadable(self, keyword: str, wrong: str) -> None:
        """The value cannot be used, so nothing more can be said of what depends on it."""
        self.mistakes.append(f"{self.label(keyword)}: {wrong}")
        variable = VARIABLES.get(keyword)
        self._unreadable |= {keyword, variable.holds or keyword} if variable else {keyword}

    def unclear(self, *keywords: str) -> None:
        """Nothing can be said of these, for a reason that was told already."""
        self._unreadable |= set(keywords)

    def readable(self, *keywords: str) -> bool:
        """Has everything a rule looks at been understood?"""
        return self._unreadable.isdisjoint({"config_file", *keywords})

    def mistake(self, keyword: str, wrong: str, *because_of: str) -> None:
        """A rule is broken, unless that only seems so since one of its settings is unreadable."""
        if self.readable(keyword, *because_of):
            self.mistakes.append(f"{self.label(keyword)}: {wrong}")

    def warning(self, keyword: str, wrong: str) -> None:
        """Allowed, but the user should know."""
        self.warnings.append(f"{self.label(keyword)}: {wrong}")
