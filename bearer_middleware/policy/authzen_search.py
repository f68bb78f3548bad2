"""Who may, on what, and what: the Search APIs of AuthZEN (Authorization API 1.0, section 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from bearer_middleware.errors import TransportError
from bearer_middleware.flow.effects import Flow
from bearer_middleware.policy.authzen_metadata import Endpoints
from bearer_middleware.policy.model import NOTHING, AccessRequest, Action, Resource, Subject
from bearer_middleware.policy.remote import MAX_ANSWERS, Remote, word_of
from bearer_middleware.policy.wire import Unsendable
from bearer_middleware.policy.wire import told as written

Entity = TypeVar("Entity", Subject, Resource, Action)

_MOST_PAGES, _MOST_RESULTS = 100, 10_000
_LONGEST_TOKEN = 8192


@dataclass(frozen=True, slots=True)
class Found(Generic[Entity]):
    """What a search found. Where ``complete`` is false there may be more: ``limit`` was reached,
    or something failed, for which ``error`` is a word of ours. A result is no decision: whoever
    acts on it asks for one.
    """

    results: tuple[Entity, ...] = field(default=(), repr=False)
    complete: bool = True
    error: str | None = None
    retry_after: float = 1.0


class Searches:
    """The searches of a decision point that says where they are."""

    _remote: Remote

    def _endpoints(self, deadline: float) -> Flow[Endpoints]:
        raise NotImplementedError

    def _question(self, request: AccessRequest) -> dict[str, Any]:
        return written(request)

    def _ask(
        self, url: str | None, question: object, deadline: float, limit: int
    ) -> Flow[dict[str, Any]]:
        raise NotImplementedError

    def search_subjects(
        self,
        subject_type: str,
        action: Action,
        resource: Resource,
        deadline: float,
        *,
        context: Mapping[str, Any] = NOTHING,
        limit: int = _MOST_RESULTS,
    ) -> Flow[Found[Subject]]:
        """Which subjects of a type may do this to that (section 8.4). ``deadline`` is in monotonic
        seconds. Never raises.
        """
        request = AccessRequest(Subject(subject_type, ""), action, resource, context)
        return self._search("subject", request, _subject, deadline, limit)

    def search_resources(
        self,
        subject: Subject,
        action: Action,
        resource_type: str,
        deadline: float,
        *,
        context: Mapping[str, Any] = NOTHING,
        limit: int = _MOST_RESULTS,
    ) -> Flow[Found[Resource]]:
        """On which resources of a type the subject may do this (section 8.5). Never raises."""
        request = AccessRequest(subject, action, Resource(resource_type, ""), context)
        return self._search("resource", request, _resource, deadline, limit)

    def search_actions(
        self,
        subject: Subject,
        resource: Resource,
        deadline: float,
        *,
        context: Mapping[str, Any] = NOTHING,
        limit: int = _MOST_RESULTS,
    ) -> Flow[Found[Action]]:
        """What the subject may do to the resource (section 8.6). Never raises."""
        request = AccessRequest(subject, Action(""), resource, context)
        return self._search("action", request, _action, deadline, limit)

    def _search(
        self,
        sought: str,
        request: AccessRequest,
        read: Callable[[Any], Entity],
        deadline: float,
        limit: int,
    ) -> Flow[Found[Entity]]:
        found: list[Entity] = []
        try:
            deadline = self._remote.deadline(deadline)
            endpoints = yield from self._endpoints(deadline)
            url = getattr(endpoints, f"search_{sought}")
            question = self._searched(sought, request)
            seen = {""}
            while True:
                answer = yield from self._ask(url, question, deadline, MAX_ANSWERS)
                found += _results(answer, read)
                token = _next(answer)
                if not token:
                    return Found(tuple(found[:limit]), len(found) <= limit)
                if len(found) >= limit:
                    return Found(tuple(found[:limit]), complete=False)
                if token in seen or len(seen) > _MOST_PAGES:
                    raise TransportError("pages without end")
                seen.add(token)
                question["page"] = {"token": token}
        except Unsendable:
            return Found((), complete=False, error="unsendable")
        except TransportError as failure:
            after = self._remote.retry_after
            return Found(tuple(found[:limit]), False, word_of(failure), after)

    def _searched(self, sought: str, request: AccessRequest) -> dict[str, Any]:
        """The question without what is sought: of an entity, all but its type; an action whole."""
        question = self._question(request)
        if sought == "action":
            del question["action"]
        else:
            question[sought] = {"type": question[sought]["type"]}
        return question


def _results(answer: Mapping[str, Any], read: Callable[[Any], Entity]) -> Iterable[Entity]:
    results = answer.get("results")
    if not isinstance(results, list):
        raise TransportError("not results")
    try:
        return [read(item) for item in results]
    except (KeyError, TypeError, ValueError):
        pass
    raise TransportError("not results")


def _next(answer: Mapping[str, Any]) -> str:
    """The token of the next page; an empty one says that this was the last (section 8.2)."""
    page = answer.get("page")
    if page is None:  # some write null for what is not there
        return ""
    token = (page.get("next_token") or "") if isinstance(page, Mapping) else None
    if not isinstance(token, str) or len(token) > _LONGEST_TOKEN:
        raise TransportError("not results")
    return token


def _subject(item: Any) -> Subject:
    return Subject(_text(item["type"]), _text(item["id"]), _properties(item))


def _resource(item: Any) -> Resource:
    return Resource(_text(item["type"]), _text(item["id"]), _properties(item))


def _action(item: Any) -> Action:
    return Action(_text(item["name"]), _properties(item))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _properties(item: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = item.get("properties")
    if properties is None:
        return NOTHING
    if not isinstance(properties, Mapping):
        raise TypeError("no table")
    return properties
