"""What the middlewares of both worlds are put together from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bearer_middleware.errors import ConfigError
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings import Settings
from bearer_middleware.settings.keywords import Keywords
from bearer_middleware.settings.resources import metadata_url
from bearer_middleware.web.challenge import Challenges
from bearer_middleware.web.exemptions import Exemptions

if TYPE_CHECKING:
    from bearer_middleware.web.auditing import Audited

#: Where handlers find the identity, in a scope and in an environ.
IDENTITY = "bearer_middleware.identity"


def server_for(server: ResourceServer | None, keywords: Keywords) -> ResourceServer:
    """The server given, or one of the environment and ``keywords``; never both."""
    if server is None:
        return ResourceServer(Settings.from_env(**keywords))
    if keywords:
        names = ", ".join(sorted(keywords))
        raise ConfigError(f"{names}: a server has its settings already, give one or the other")
    return server


def challenges_for(server: ResourceServer) -> Challenges:
    """What writes the answers of this server's refusals."""
    settings, metadata = server.settings, None
    if settings.resource is not None:
        metadata = metadata_url(settings.resource)
    return Challenges(
        settings.realm,
        settings.required_scopes,
        server.events,
        metadata=metadata,
        hierarchy=server.hierarchy,
    )


def audited_by(server: ResourceServer, challenges: Challenges) -> Audited | None:
    """What tells the audit trail of refused requests; ``None`` where there is none."""
    if server.audit is None:
        return None
    from bearer_middleware.web.auditing import audited

    return audited(server.audit, server.now, challenges)


def exemptions_for(server: ResourceServer, endpoints: Iterable[str] = ()) -> Exemptions | None:
    """The exempt paths of this server's settings, its public routes and its ``endpoints``, if
    there are any.
    """
    rules, authorizer = (*server.settings.exempt, *endpoints), server.authorizer
    if authorizer is None or authorizer.table is None or not authorizer.table.has_public:
        return Exemptions(rules) if rules else None
    return Exemptions(rules, authorizer.table.is_public)
