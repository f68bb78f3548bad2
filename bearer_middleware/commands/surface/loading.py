"""From ``module:attribute`` to the application, as ASGI and WSGI servers find it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from bearer_middleware.errors import ConfigError


class CannotLoad(Exception):
    """There is no such application, or it cannot be put together here."""


def load(target: str) -> Any:
    """The application that ``module:attribute`` or ``module:factory()`` names, where modules of
    the working directory come first. Raises ``CannotLoad``.
    """
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute.removesuffix("()")):
        raise CannotLoad("say module:attribute, or module:factory() for what has to be called")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with redirect_stdout(sys.stderr):  # what it prints is not what we tell
        try:
            app = _found(import_module(module), attribute)
        except CannotLoad:
            raise
        except ConfigError as error:
            raise misconfigured(error) from None
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}"
            raise CannotLoad(f"{target} cannot be imported: {said}") from error
    if not callable(app):
        raise CannotLoad(f"{target} is no application: it cannot be called")
    return app


def misconfigured(error: ConfigError) -> CannotLoad:
    """Where a middleware cannot be built with what this environment says."""
    return CannotLoad(f"its settings cannot work here: {'; '.join(error.mistakes)}")


def _found(module: Any, attribute: str) -> Any:
    thing = module
    for name in attribute.removesuffix("()").split("."):
        if not hasattr(thing, name):
            raise CannotLoad(f"{module.__name__} has no {attribute.removesuffix('()')}")
        thing = getattr(thing, name)
    return thing() if attribute.endswith("()") else thing
