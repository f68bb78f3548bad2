"""What ``check`` says of routes, of remembered decisions and of the audit trail: of settings that
can be read, and may yet not mean what they say. Nobody is asked.
"""

from __future__ import annotations

from bearer_middleware.commands.findings import Finding
from bearer_middleware.policy.coverage import covered_rows
from bearer_middleware.resource_server import ResourceServer
from bearer_middleware.settings import Settings
from bearer_middleware.settings.routes import Route

_POLICY, _ROUTES = "BEARER_POLICY", "BEARER_ROUTES"
_CACHE, _CHANGED = "BEARER_POLICY_CACHE_TTL", "BEARER_POLICY_CHANGED_PATH"
#: Who loses a role shall not keep it for longer than a minute.
_LONGEST_SECONDS = 60.0
_SECRET_BYTES = 32
_MOST_NAMED = 20


def access_findings(server: ResourceServer) -> list[Finding]:
    """All of them, in the order of the settings."""
    settings = server.settings
    return [
        *_of_policy_and_routes(settings),
        *_of_rows(settings.routes or ()),
        *_of_cache(settings),
        *_of_changes(settings),
        *_of_audit(settings.audit),
    ]


def _of_policy_and_routes(settings: Settings) -> list[Finding]:
    routes, found = settings.routes, list[Finding]()
    if settings.policy is not None and routes is None:
        text = (
            "there is no table of routes, so every request is asked about with its method as "
            "action and route:PATH as resource; with [[routes]] each row says what is asked"
        )
        found.append(Finding("ok", _POLICY, text))
    if settings.policy is None and any(route.action for route in routes or ()):
        text = "is not set, but routes name actions: scopes alone decide, nobody asks about those"
        found.append(Finding("warn", _POLICY, text))
    if routes is not None and not routes:
        found.append(Finding("warn", _ROUTES, "the table is empty, so every request is denied"))
    return found


def _of_rows(routes: tuple[Route, ...]) -> list[Finding]:
    found = [
        Finding(
            "warn",
            _ROUTES,
            f"row {each.place}, {_named(routes, each.place)}, never counts: row {each.by}, "
            f"{_named(routes, each.by)}, comes first and takes all its requests",
        )
        for each in covered_rows(routes)
    ]
    found += [
        Finding(
            "warn",
            _ROUTES,
            f'row {place}, {_named(routes, place)}, has on_error = "allow": while nobody can '
            "decide, whoever has a good token is let through",
        )
        for place, route in enumerate(routes, 1)
        if route.on_error == "allow"
    ]
    if len(found) > _MOST_NAMED:
        text = f"and {len(found) - _MOST_NAMED} more rows of that kind"
        return [*found[:_MOST_NAMED], Finding("warn", _ROUTES, text)]
    return found


def _named(routes: tuple[Route, ...], place: int) -> str:
    return f"{routes[place - 1].method} {routes[place - 1].path}"


def _of_cache(settings: Settings) -> list[Finding]:
    ttl = settings.policy_cache_ttl
    if ttl <= 0 or settings.policy is None:
        return []
    if ttl <= _LONGEST_SECONDS:
        return [Finding("ok", _CACHE, f"a permit may outlive a change of policy by {ttl:g} s")]
    text = (
        f"a permit may outlive a change of policy by {ttl:g} s, so who loses a right keeps it as "
        f"long: {_LONGEST_SECONDS:g} s at most is advised, and {_CHANGED} ends it at once"
    )
    return [Finding("warn", _CACHE, text)]


def _of_changes(settings: Settings) -> list[Finding]:
    path, token = settings.policy_changed_path, settings.policy_changed_token
    if path is None or token is None:
        return []
    if settings.policy is None and settings.routes is None:
        return [Finding("fail", _CHANGED, "there is no policy that could be told to have changed")]
    if settings.policy_cache_ttl <= 0:
        text = f"has little use: without {_CACHE} no decision is kept that could be forgotten"
        found = [Finding("warn", _CHANGED, text)]
    else:
        text = f"POST {path} makes the process that answers forget its decisions; tell each of them"
        found = [Finding("ok", _CHANGED, text)]
    if len(token.reveal().encode()) < _SECRET_BYTES:
        text = f"is short: it might be guessed; {_SECRET_BYTES} random characters or more"
        found.append(Finding("warn", "BEARER_POLICY_CHANGED_TOKEN", text))
    return found


def _of_audit(said: str | None) -> list[Finding]:
    """Whether the file can be written to was found out with the settings."""
    if said is None:
        return []
    if said == "log":
        text = "events go to the logger bearer_middleware.audit, permits of them at INFO"
        return [Finding("ok", "BEARER_AUDIT", text)]
    text = "the file can be written by whoever runs this command; so must it be by the API"
    return [Finding("ok", "BEARER_AUDIT", text)]
