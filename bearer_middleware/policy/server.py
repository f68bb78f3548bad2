"""What a resource server has of policy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bearer_middleware.access.hierarchy import Hierarchy
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.events import Events
from bearer_middleware.settings import Settings

if TYPE_CHECKING:
    from bearer_middleware.audit.opening import Audit, Parts
    from bearer_middleware.audit.record import Recorder
    from bearer_middleware.issuer.upstream import Upstream
    from bearer_middleware.policy.authorizer import Authorizer
    from bearer_middleware.policy.opening import Obligations, Policy
    from bearer_middleware.policy.passages import Part

    #: Adds a part to health, under a name.
    Add = Callable[[str, Part], None]


class Deciding:
    """Of a resource server, what decides access and is told of it. Who has neither a policy nor
    an audit trail does not even import what they are made of.
    """

    #: Who decides over requests; ``None`` where there is neither policy nor table of routes.
    authorizer: Authorizer | None
    #: Who is told of decisions and refusals; ``None`` is nobody.
    audit: Recorder | None

    settings: Settings
    events: Events
    hierarchy: Hierarchy
    _clock: Clock

    def _open_policy(
        self, policy: Policy | None, obligations: Obligations | None, add: Add
    ) -> None:
        self.authorizer = None
        given = (policy, obligations, self.settings.policy, self.settings.routes)
        if all(one is None for one in given):
            return
        from bearer_middleware.policy.opening import open_authorizer
        from bearer_middleware.policy.passages import condition, upstreams_of

        parts = (self._clock, self.events, self.hierarchy)
        self.authorizer = open_authorizer(self.settings, (policy, self.audit, obligations), *parts)
        point = None if self.authorizer is None else self.authorizer.point
        if point is not None and upstreams_of(point):
            add("policy", partial(condition, point))

    def _open_audit(self: Parts, audit: Audit | None) -> Recorder | None:
        if audit is None and self.settings.audit is None:
            return None
        from bearer_middleware.audit.opening import open_audit

        return open_audit(self, audit)

    @property
    def policy_upstreams(self) -> tuple[Upstream, ...]:
        """What stands between us and the decision point; nothing where it is in this process."""
        point = None if self.authorizer is None else self.authorizer.point
        if point is None:
            return ()
        from bearer_middleware.policy.passages import upstreams_of

        return upstreams_of(point)

    @property
    def extensions_of_policy(self) -> tuple[Callable[..., Any], ...]:
        """Functions of the user's that decide, do what decisions oblige to, or are told of them."""
        decide = () if self.authorizer is None else self.authorizer.extensions
        return (*decide, *getattr(self.audit, "functions", ()))

    def policy_changed(
        self, *, subject: str | None = None, resource_type: str | None = None
    ) -> None:
        """Forget decisions that were made by policy or data of before: all, or those about one
        subject or one type of resource. Every request that begins after this returned is decided
        anew in this process.
        """
        if self.authorizer is not None:
            self.authorizer.forget(subject=subject, resource_type=resource_type)
