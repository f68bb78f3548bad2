"""``BEARER_POLICY_CHANGED_PATH``: whoever changes policies or their data says so here, and no
decision of before is given out any more.

``POST`` a JSON object with ``subject`` (its id), ``resource_type``, or neither. Any other object,
such as what OPAL posts to its callbacks or publishes as a data update, means everything. It is
authenticated with the bearer secret ``BEARER_POLICY_CHANGED_TOKEN``.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bearer_middleware.errors import InvalidToken, Reason, Refused
from bearer_middleware.flow.effects import Flow, lift
from bearer_middleware.flow.events import Event, Events
from bearer_middleware.settings.secret import Secret
from bearer_middleware.tokens.bearer import bearer_token
from bearer_middleware.web.challenge import Answer, Challenges

#: Takes ``subject`` and ``resource_type`` as keywords: plain, ``async`` or a flow.
Changed = Callable[..., Any]

MAX_CHANGE_BYTES = 65_536
_MEMBERS = {"subject", "resource_type"}
_LONGEST_SECRET = 8192


class PolicyChanges:
    """Receives changes, and hands them to ``changed``."""

    def __init__(self, changed: Changed, token: Secret, realm: str, events: Events) -> None:
        self._changed, self._token, self._events = changed, token, events
        self._challenges = Challenges(realm)

    def turns_away(self, values: Sequence[bytes]) -> Answer | None:
        """The answer to whoever does not show the secret in the Authorization headers; looked at
        before the body is.
        """
        try:
            shown = bearer_token(values, _LONGEST_SECRET)
            if hmac.compare_digest(shown, self._token.reveal().encode()):
                return None
            raise InvalidToken(Reason.BAD_SIGNATURE)
        except Refused as refusal:
            self._reject("the secret is not shown")
            return self._challenges.answer(refusal)

    def receive(self, media_type: str, body: bytes) -> Flow[int]:
        """The status of the answer: 202 where it was done, 400 where it says nothing, and 503
        where it could not be done.
        """
        try:
            change = _change(media_type, body)
        except ValueError as error:
            self._reject(str(error))
            return 400
        try:
            yield from lift(partial(self._changed, **change))
        except Exception as error:  # noqa: BLE001 - they may say it again
            self._reject(f"it raised {type(error).__name__}")
            return 503
        self._events.note(Event("policy_changed", detail=", ".join(change) or "everything"))
        return 202

    def _reject(self, why: str) -> None:
        self._events.note(Event("policy_change_rejected", logging.WARNING, detail=why))


def _change(media_type: str, body: bytes) -> dict[str, str]:
    """Of what the policy changed; empty is everything. Raises ``ValueError``, in words of ours."""
    if media_type.partition(";")[0].strip().lower() != "application/json":
        raise ValueError("not application/json")
    if len(body) > MAX_CHANGE_BYTES:
        raise ValueError("too long")
    try:
        told: object = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(told, dict):
        raise ValueError("not an object")
    if not told.keys() <= _MEMBERS:  # somebody else's message: it may mean anything
        return {}
    change = {name: value for name, value in told.items() if value is not None}
    if not all(isinstance(value, str) and value for value in change.values()):
        raise ValueError("a member is no text")
    return change
