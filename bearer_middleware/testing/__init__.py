"""An authorization server in one object, for tests of applications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bearer_middleware.testing.issuer import Issuer

__all__ = ["Issuer"]


def __getattr__(name: str) -> Any:
    # Every pytest run of every user imports this package for the plugin: only who asks for
    # an issuer pays for cryptography.
    if name == "Issuer":
        from bearer_middleware.testing.issuer import Issuer

        return Issuer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
