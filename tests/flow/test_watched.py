"""Files that change while the process runs: looked at seldom, taken over whole, or not at all."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from bearer_middleware.flow.watched import Watched


class Reader:
    """Reads a file as text in capitals, and counts."""

    def __init__(self, path: Path) -> None:
        self.path, self.times, self.now = path, 0, 100.0
        self.watched = Watched("BEARER_X_FILE", (str(path),), self.read, monotonic=lambda: self.now)

    def read(self) -> str:
        self.times += 1
        text = self.path.read_text()
        if not text:
            raise ValueError("is empty")
        return text.upper()

    def later(self) -> str | None:
        """What serves after the next look that is due; the name of the event, if there is one."""
        self.now += 1
        event = self.watched.look()
        return event and event.name


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Of a file that has been written long ago."""
    path = tmp_path / "file"
    write(path, "one")
    return Reader(path)


def write(path: Path, text: str, *, old: bool = True) -> None:
    """Write the file, as if that were an hour ago: each time a little later."""
    path.write_text(text)
    if old:
        age(path)


_written = iter(range(1_000_000))


def age(path: Path) -> None:
    """Make it an old file."""
    second = 1_700_000_000 + next(_written)
    os.utime(path, (second, second))


def test_nothing_is_read_before_the_first_look(reader: Reader) -> None:
    """Making one does nothing."""
    assert (reader.watched.value, reader.times) == (None, 0)
    assert reader.watched.look() is None
    assert (reader.watched.value, reader.times) == ("ONE", 1)


def test_a_file_is_looked_at_once_a_second(reader: Reader) -> None:
    """Within the second nobody looks; after it the change is seen, and told."""
    reader.watched.look()
    write(reader.path, "two")
    reader.now += 0.9
    assert reader.watched.look() is None
    assert reader.watched.value == "ONE"
    assert reader.later() == "file_renewed"
    assert (reader.watched.value, reader.watched.version) == ("TWO", 2)


def test_at_once_does_not_wait_for_the_second(reader: Reader) -> None:
    """Who was refused with the old content looks now."""
    reader.watched.look()
    write(reader.path, "two")
    assert reader.watched.look(at_once=True) is not None
    assert reader.watched.value == "TWO"


def test_what_did_not_change_is_not_read(reader: Reader) -> None:
    """A look is a stat."""
    for _ in range(5):
        assert reader.later() is None
    assert reader.times == 1


def test_the_same_content_is_no_news(reader: Reader) -> None:
    """Touched, or written again: nothing is told and no version begins."""
    reader.watched.look()
    write(reader.path, "one")
    assert reader.later() is None
    assert (reader.times, reader.watched.version) == (1, 1)


def test_a_young_file_is_read_again(reader: Reader) -> None:
    """Two writes within a tick of the file system's clock look the same, but for the content."""
    write(reader.path, "two", old=False)
    reader.watched.look()
    stood = reader.path.stat()
    reader.path.write_text("six")
    os.utime(reader.path, ns=(stood.st_atime_ns, stood.st_mtime_ns))
    assert reader.later() == "file_renewed"
    assert reader.watched.value == "SIX"


@pytest.mark.parametrize("trouble", ["missing", "unusable", "directory", "dangling"])
def test_an_unusable_file_leaves_the_old_content(reader: Reader, trouble: str) -> None:
    """It serves on; that is told once, and once more for the next trouble."""
    reader.watched.look()
    for _ in range(2):
        reader.path.unlink()
        if trouble == "unusable":
            write(reader.path, "")
        elif trouble == "directory":
            reader.path.mkdir()
        elif trouble == "dangling":
            reader.path.symlink_to("nowhere")
        reader.now += 1
        event = reader.watched.look()
        assert event is not None
        assert (event.name, event.level) == ("file_unusable", logging.WARNING)
        assert "BEARER_X_FILE" in event.detail
        assert [reader.later() for _ in range(3)] == [None] * 3
        assert (reader.watched.value, reader.watched.troubled) == ("ONE", True)
        if trouble == "directory":
            reader.path.rmdir()
        reader.path.unlink(missing_ok=True)
        write(reader.path, "one")
        assert reader.later() is None
        assert not reader.watched.troubled


def test_trouble_ends_with_new_content(reader: Reader) -> None:
    """Half written for a moment, then whole."""
    reader.watched.look()
    write(reader.path, "")
    assert reader.later() == "file_unusable"
    write(reader.path, "two")
    assert reader.later() == "file_renewed"
    assert (reader.watched.value, reader.watched.troubled) == ("TWO", False)


def test_a_link_that_is_swapped(tmp_path: Path) -> None:
    """As Kubernetes replaces secrets: ``file -> ..data/file``, ``..data -> a folder``."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "file", name)
    os.utime(tmp_path / "two" / "file", (1_600_000_000, 1_600_000_000))
    os.utime(tmp_path / "one" / "file", (1_600_000_000, 1_600_000_000))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "file").symlink_to("..data/file")
    reader = Reader(tmp_path / "file")
    reader.watched.look()
    assert reader.watched.value == "ONE"
    (tmp_path / "..tmp").symlink_to("two")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert reader.later() == "file_renewed"
    assert reader.watched.value == "TWO"


def test_what_was_read_before_serves_until_the_first_look(tmp_path: Path) -> None:
    """And serves on where the file has gone since."""
    gone = Watched("X", (str(tmp_path / "gone"),), lambda: "new", first="old")
    assert gone.value == "old"
    gone.look()
    assert (gone.value, gone.troubled) == ("old", True)


def test_many_threads_make_one_version(reader: Reader) -> None:
    """All look at once; the content is new once."""
    reader.watched.look()
    write(reader.path, "two")
    told: list[object] = []
    gate = threading.Barrier(8)

    def look() -> None:
        gate.wait()
        told.append(reader.watched.look(at_once=True))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([event for event in told if event is not None]) == 1
    assert (reader.watched.value, reader.watched.version) == ("TWO", 2)


@pytest.mark.parametrize("back", ["later", "at once"])
def test_a_file_that_changes_while_it_is_read_and_back_again(tmp_path: Path, back: str) -> None:
    """What was read then is not taken for what was there before, so that is noticed later."""
    path = tmp_path / "file"
    write(path, "one")

    class Hasty(Reader):
        def read(self) -> str:
            if self.times == 0:
                write(path, "two")
            text = super().read()
            if back == "at once" and self.times == 1:
                write(path, "one")
            return text

    reader = Hasty(path)
    reader.watched.look()
    assert reader.watched.value == "TWO"
    write(path, "one")
    reader.later()
    reader.later()
    assert reader.watched.value == "ONE"
    assert reader.times == 2
