"""Secrets stay hidden wherever settings are printed, copied or stored."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from bearer_middleware.errors import ConfigError
from bearer_middleware.settings import Secret, Settings

CANARY = "canary-7f3a9c51e2-canary-7f3a9c51e2"
CLIENT: dict[str, Any] = {
    "issuer": "https://as.example",
    "audience": "orders",
    "client_id": "api",
    "client_secret": CANARY,
    "fleet_secret": CANARY,
}


def test_only_reveal_shows() -> None:
    """A secret tells its text to nobody but the one who asks for it."""
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    assert f"{secret} {secret!r} {[secret]}" == "<redacted> <redacted> [<redacted>]"
    assert not hasattr(secret, "__dict__")


def test_equality() -> None:
    """Two secrets are equal when their texts are; a text is not a secret."""
    assert Secret("ä") == Secret("ä")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_not_pickled(protocol: int) -> None:
    """Neither a secret nor settings that hold one can be written to a store."""
    for value in (Secret(CANARY), Settings(**CLIENT)):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(value, protocol)


def test_settings_hide_them() -> None:
    """Settings show no secret, whole or unfolded, and a copy is the same."""
    settings = Settings(**CLIENT)
    assert settings.client_secret == Secret(CANARY)
    assert CANARY not in f"{settings!r} {settings} {dataclasses.asdict(settings)}"
    assert copy.copy(Secret(CANARY)) == Secret(CANARY)
    assert copy.deepcopy(settings) == copy.copy(settings) == settings
    assert settings.fleet_secret == Secret(CANARY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hmac_secret": CANARY[:20]},
        {"hmac_secret": f"{CANARY}\n"},
        {"client_secret": CANARY, "client_auth": "private_key_jwt"},
        {"cache_url": f"redis://:{CANARY}@cache"},
        {"policy_token": CANARY},
        {"revocation_url": f"redis://:{CANARY}@cache"},
        {"jwks_url": f"https://user:{CANARY}@as.example/keys"},
        *({name: CANARY} for name in ("leeway", "optional", "profile", "exempt", "issuer")),
        *({name: CANARY} for name in ("algorithms", "jwks_file", "client_secret_file", "ca_file")),
        {"required_scopes": [f'"{CANARY}"']},
        {"issuers": [{"client_secret": CANARY, "hmac_secret": CANARY[:20]}]},
    ],
    ids="-".join,
)
def test_errors_hide_them(wrong: dict[str, Any]) -> None:
    """No mistake repeats what was written, whichever setting it was written into."""
    with pytest.raises(ConfigError) as caught:
        Settings(**{"issuer": "https://as.example", "audience": "orders"} | wrong)
    told = "".join(traceback.format_exception(caught.value))
    assert CANARY[:20] not in told
    assert caught.value.__context__ is None


def test_files_hide_them(write: Callable[[str, str], str]) -> None:
    """No mistake quotes a file that holds secrets."""
    broken = write("broken.toml", f"client_secret = {CANARY}\n")
    weak = write("weak", CANARY[:20])
    with pytest.raises(ConfigError) as caught:
        Settings(config_file=broken, hmac_secret_file=weak)
    assert CANARY[:20] not in str(caught.value)
    assert caught.value.mistakes[0] == ("BEARER_CONFIG_FILE: names a file that is not TOML, line 1")
