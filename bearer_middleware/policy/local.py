"""``BEARER_POLICY=local``: roles, attributes and relations in a TOML file, decided in Python.

    roles_from = ["subject.properties.roles"]       # where a subject's roles are; this is usual
    tuples = ["todo:1#owner@user:alice", "todo:1#parent@list:7", "list:7#reader@team:eng#member"]

    [roles.viewer]
    permits = ["todo:read", "user:read"]            # type:action, each may be *

    [roles.editor]
    inherits = ["viewer"]
    permits = ["todo:create", "todo:update_*"]

    [subjects."user:bob"]                           # what the policy knows besides the token
    roles = ["editor"]
    properties = { email = "bob@example.com" }

    [relations.todo]
    reader = ["owner", "reader of parent"]          # owners are readers, and so are its parent's

    [[rules]]
    name = "owners-delete"                          # stands in logs and audit
    actions = ["delete"]
    resources = ["todo"]
    when = "resource.properties.ownerID == subject.id"
    max_age = "5m"                                  # of the authentication; acr = ["loa2"] too

    [[rules]]
    name = "not-while-frozen"
    effect = "deny"
    actions = ["*"]
    resources = ["todo"]
    when = ["resource.properties.frozen == true"]   # a list: all of them
    unless = ["'admin' in subject.properties.roles"]  # any of these, and the rule says nothing
    user_reason = "This list is frozen."

A rule may also want one of its ``roles``, or one ``relation`` of several, and have
``obligations``, tables of ``type``, ``id`` and ``properties``. All that a rule names has to be
so. A denial wins over every permit; nothing at all is not applicable, and lets nobody in. A rule
that wants better authentication than there is denies, and says which would do (RFC 9470): it
looks at ``acr`` and ``auth_time`` in the subject's properties, or else in the context. In a
denying rule ``acr`` and ``max_age`` spare those who have authenticated so. Conditions are
described in :mod:`bearer_middleware.policy.conditions`, relations in
:mod:`bearer_middleware.policy.relations`. Without a file the same table may stand in
``BEARER_POLICY_OPTIONS``, ``[policy_options]`` in the configuration file.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.engines import Engine
from bearer_middleware.policy.kept import Given, Held, InFiles, line_at, version_of
from bearer_middleware.policy.local_rules import LocalRules
from bearer_middleware.policy.local_table import read_table
from bearer_middleware.policy.members import READ_ELSEWHERE
from bearer_middleware.policy.model import AccessRequest, Decision
from bearer_middleware.policy.point import Surroundings
from bearer_middleware.settings import Settings


class LocalPolicy(Engine):
    """Decides by a local policy: its TOML, or the table of it. Raises ``ConfigError``."""

    def __init__(
        self,
        policy: str | Mapping[str, Any] | Held[LocalRules],
        *,
        name: str = "local",
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(name, surroundings)
        self._now = (surroundings or Surroundings()).clock.now
        try:
            if isinstance(policy, str):
                self._held: Held[LocalRules] = Given(of_text(policy, name))
            elif isinstance(policy, Mapping):
                self._held = Given(_of_table(policy, name))
            else:
                self._held = policy
        except ValueError as error:
            raise ConfigError(f"the local policy: {error}") from None

    def _judge(self, request: AccessRequest) -> Decision:
        return self._held.current().decide(request, self._now())


def open_point(settings: Settings, surroundings: Surroundings) -> LocalPolicy:
    """The policy of ``BEARER_POLICY_FILE``, or of ``BEARER_POLICY_OPTIONS``. Raises
    ``ConfigError``.
    """
    path = settings.policy_file
    said = {
        name: value for name, value in settings.policy_options.items() if name not in READ_ELSEWHERE
    }
    if path is not None:
        if said:
            raise ConfigError("BEARER_POLICY_OPTIONS: has no use beside BEARER_POLICY_FILE")
        held = InFiles([("BEARER_POLICY_FILE", path)], of_text, surroundings)
        return LocalPolicy(held, surroundings=surroundings)
    try:
        return LocalPolicy(Given(_of_table(said, "local")), surroundings=surroundings)
    except ValueError as error:
        raise ConfigError(f"BEARER_POLICY_OPTIONS: {error}") from None


def of_text(text: str, name: str = "local") -> LocalRules:
    """The policy of a TOML text. Raises ``ValueError``."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # The parser's own words may quote the file.
        where = re.search(r"line \d+", str(error))
        line = where[0] if where else f"line {line_at(text, len(text))}"
        raise ValueError(f"{line}: is not TOML") from None
    return LocalRules(read_table(table, text), point=name, version=version_of(text))


def _of_table(table: Mapping[str, Any], name: str) -> LocalRules:
    version = version_of(json.dumps(dict(table), sort_keys=True, default=str))
    return LocalRules(read_table(table), point=name, version=version)
