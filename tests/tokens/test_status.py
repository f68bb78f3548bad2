"""The ``status`` claim and the lists it refers to, as pure functions: TSL-2, TSL-3, TSL-5."""

from __future__ import annotations

import base64
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearer_middleware.errors import InvalidToken, Reason
from bearer_middleware.testing.statuses import packed
from bearer_middleware.tokens.status import place_of, status_rule
from bearer_middleware.tokens.status_list import (
    LEAST_TTL,
    MAX_UNPACKED_BYTES,
    MOST_TTL,
    USUAL_TTL,
    StatusList,
    read_status_list,
)

NOW = 1_700_000_000.0


def read(lst: str, bits: int = 1, **claims: Any) -> StatusList:
    """The list of otherwise good claims."""
    said = {"iat": NOW, "status_list": {"bits": bits, "lst": lst}, **claims}
    return read_status_list(said, NOW, 30)


@pytest.mark.parametrize(
    ("bits", "lst", "statuses"),
    [
        (1, "eNrbuRgAAhcBXQ", [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]),
        (2, "eNo76fITAAPfAgc", [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]),
    ],
)
def test_examples_of_the_draft(bits: int, lst: str, statuses: list[int]) -> None:
    """TSL-3: section 4, from the lowest bit of each byte up."""
    found = read(lst, bits)
    assert [found.status(index) for index in range(len(statuses))] == statuses
    assert found.status(len(statuses)) is None
    assert packed(statuses, bits) == lst
    if bits == 1:
        assert found.statuses == b"\xb9\xa3"


def test_the_large_list_of_the_draft() -> None:
    """TSL-3: appendix C.1, a million statuses of which eleven are not 0."""
    lst = (
        "eNrt3AENwCAMAEGogklACtKQPg9LugC9k_ACvreiogE"
        "AAKkeCQAAAAAAAAAAAAAAAAAAAIBylgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAXG9IAAAAAAAAAPwsJAAAAAAAAAAAAAAAvhsSAAAAAAAAAAA"
        "A7KpLAAAAAAAAAAAAAAAAAAAAAJsLCQAAAAAAAAAAADjelAAAAAAAAAAAKjDMAQAAA"
        "ACAZC8L2AEb"
    )
    set_ones = [0, 1993, 25460, 159495, 495669, 554353, 645645, 723232, 854545, 934534, 1000345]
    found = read(lst)
    assert [index for index in range(1 << 20) if found.status(index)] == set_ones
    assert found.status(1 << 20) is None


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_every_width(bits: int) -> None:
    """TSL-3: what is packed comes out again."""
    chance = random.Random(bits)
    statuses = [chance.randrange(1 << bits) for _ in range(4_096)]
    found = read(packed(statuses, bits), bits)
    assert [found.status(index) for index in range(4_096)] == statuses


@given(st.integers(0, 1 << 53), st.sampled_from([1, 2, 4, 8]))
def test_no_index_is_too_large(index: int, bits: int) -> None:
    """Of whatever size: a status or none."""
    found = StatusList(bits, b"\0" * 8, NOW, NOW, 60)
    assert found.status(index) == (0 if index < 64 // bits else None)


@given(
    st.dictionaries(
        st.sampled_from(["iat", "exp", "ttl", "status_list"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.floats(),
            st.integers(),
            st.text(max_size=5),
            st.fixed_dictionaries(
                {
                    "bits": st.one_of(st.integers(0, 9), st.text(max_size=2)),
                    "lst": st.one_of(
                        st.text(max_size=9),
                        st.binary(max_size=40).map(
                            lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")
                        ),
                    ),
                }
            ),
        ),
    )
)
def test_nonsense_is_a_value_error(claims: dict[str, Any]) -> None:
    """And nothing else, so that nothing of it becomes a 500."""
    try:
        found = read_status_list(claims, NOW, 30)
    except ValueError:
        return
    assert found.bits in (1, 2, 4, 8)


def test_a_bomb_is_not_unpacked() -> None:
    """A list of the most bytes there may be is read, one of more is not."""
    most, more = (
        base64.urlsafe_b64encode(zlib.compress(bytes(size), 9)).decode().rstrip("=")
        for size in (MAX_UNPACKED_BYTES, MAX_UNPACKED_BYTES + 1)
    )
    assert len(read(most).statuses) == MAX_UNPACKED_BYTES
    with pytest.raises(ValueError, match="too much"):
        read(more)


@pytest.mark.parametrize(
    ("said", "ttl"),
    [(None, USUAL_TTL), (60, 60), (43.5, 43.5), (0.1, LEAST_TTL), (86_400, MOST_TTL)],
)
def test_ttl(said: float | None, ttl: float) -> None:
    """TSL-4: honoured and clamped, with a usual one where nothing is said."""
    claims = {} if said is None else {"ttl": said}
    assert read("eNrbuRgAAhcBXQ", **claims).ttl == ttl


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"iat": NOW + 30}, True),
        ({"iat": NOW + 31}, False),
        ({"exp": NOW - 29}, True),
        ({"exp": NOW - 30}, False),
    ],
)
def test_times_have_the_leeway_of_tokens(claims: dict[str, Any], good: bool) -> None:
    """TSL-2: iat and exp."""
    if good:
        assert read("eNrbuRgAAhcBXQ", **claims).expires >= NOW
    else:
        with pytest.raises(ValueError, match=r"iat|exp"):
            read("eNrbuRgAAhcBXQ", **claims)


COVERED = [
    ("https://h.example", "https://h.example/any/where"),
    ("https://h.example/", "https://h.example/any"),
    ("https://h.example", "https://H.EXAMPLE:443/1?page=2"),
    ("https://h.example:443/lists", "https://h.example/lists/1"),
    ("https://h.example/lists/", "https://h.example/lists/1/2"),
    ("https://h.example/lists", "https://h.example/lists"),
    ("https://h.example/lists", "https://h.example/lists/a%20b"),
    ("https://[::1]:8443/lists", "https://[::1]:8443/lists/1"),
    ("http://127.0.0.1:8000/l", "http://127.0.0.1:8000/l/1"),
]
NOT_COVERED = [
    ("https://h.example", "http://h.example/1"),
    ("https://h.example", "https://h.example:8443/1"),
    ("https://h.example", "https://h.example./1"),
    ("https://h.example", "https://h.example.evil/1"),
    ("https://h.example", "https://evil/h.example"),
    ("https://h.example/lists", "https://h.example/listsandmore/1"),
    ("https://h.example/lists/1", "https://h.example/lists/"),
    ("https://h.example/lists", "https://h.example/Lists/1"),
    ("https://[::1]/lists", "https://[::2]/lists/1"),
]


@pytest.mark.parametrize(("prefix", "uri"), COVERED)
def test_what_a_prefix_covers(prefix: str, uri: str) -> None:
    """TSL-5: scheme, host and port, and the path segment by segment."""
    reference = status_rule((prefix,)).reference({"status_list": {"idx": 7, "uri": uri}})
    assert reference is not None
    assert (reference.idx, reference.uri) == (7, uri)


@pytest.mark.parametrize(("prefix", "uri"), NOT_COVERED)
def test_what_it_does_not_cover(prefix: str, uri: str) -> None:
    """TSL-5: text that begins alike is not enough."""
    with pytest.raises(InvalidToken) as refused:
        status_rule((prefix,)).reference({"status_list": {"idx": 7, "uri": uri}})
    assert refused.value.reason is Reason.UNSUPPORTED_STATUS


@pytest.mark.parametrize(
    "url", ["https://h:0/1", "https://h:65536/1", "https://h:1:2/", "https://h/%zz", "https://h/é"]
)
def test_an_unclear_url_has_no_place(url: str) -> None:
    """Whatever its prefix."""
    assert place_of(url) is None
