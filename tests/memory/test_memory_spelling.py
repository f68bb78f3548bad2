"""What may enter the memory of good tokens."""

from __future__ import annotations

from bearer_middleware import ResourceServer, Settings
from bearer_middleware.flow.drivers import run
from bearer_middleware.testing import Issuer


def test_one_token_takes_one_place_however_it_is_spelled() -> None:
    """Else its holder could push all others out, with spaces and capitals alone."""
    issuer = Issuer()
    server = ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())
    token = issuer.jwt().encode()
    spellings = [b"Bearer", b"bearer", b"BEARER", b"bEaReR"]
    for number in range(40):
        value = spellings[number % 4] + b" " * (1 + number // 4) + token
        identity = server.identify(value)
        if identity is None:
            identity = run(server.authenticate([value]), server.transport)
        assert identity is not None
        assert identity.subject == "alice"
    assert len(server.memory.verified) == 1
