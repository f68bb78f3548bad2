"""What users import: the names of the contract, and nothing else by accident."""

from __future__ import annotations

import inspect

import pytest

import bearer_middleware

NAMES = {
    "BearerMiddleware",
    "ConfigError",
    "Identity",
    "ResourceServer",
    "Settings",
    "WSGIBearerMiddleware",
}


def test_the_six_names() -> None:
    """Everything public in the package itself, but for its modules."""
    public = {
        name
        for name, value in vars(bearer_middleware).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_is_documented(name: str) -> None:
    """A class with a sentence of its own."""
    thing = getattr(bearer_middleware, name)
    assert inspect.isclass(thing)
    assert thing.__doc__


def test_a_configuration_error_is_a_value_error() -> None:
    """Frameworks show those to whoever starts them; it lists every mistake."""
    error = bearer_middleware.ConfigError(["one", "two"])
    assert isinstance(error, ValueError)
    assert error.mistakes == ("one", "two")
    assert str(error) == "one\ntwo"


@pytest.mark.parametrize(
    ("name", "first"),
    [("BearerMiddleware", "app"), ("WSGIBearerMiddleware", "app"), ("ResourceServer", "settings")],
)
def test_one_positional_argument(name: str, first: str) -> None:
    """All the rest are keywords."""
    parameters = list(inspect.signature(getattr(bearer_middleware, name)).parameters.values())
    assert parameters[0].name == first
    assert {parameter.kind for parameter in parameters[1:]} <= {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    }


def test_types_are_shipped() -> None:
    """PEP 561."""
    from importlib import resources

    assert resources.files(bearer_middleware).joinpath("py.typed").is_file()
