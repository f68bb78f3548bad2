"""A token that its authorization server has to be asked about."""

from __future__ import annotations

from bearer_middleware.flow.ring import Entry
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.memory.course import Course
from bearer_middleware.memory.limits import Client


class Question:
    """A token to be asked about, at whom, and until when (monotonic seconds).

    ``verified`` is the entry of a JWT that was verified locally before; ``client`` finds out
    whose request it is.
    """

    __slots__ = ("_course", "client", "deadline", "digest", "is_jwt", "server", "token", "verified")

    def __init__(
        self,
        token: bytes,
        digest: bytes,
        server: AuthorizationServer,
        deadline: float,
        course: Course | None = None,
        *,
        is_jwt: bool = False,
        verified: Entry | None = None,
        client: Client | None = None,
    ) -> None:
        self.token, self.digest, self.server = token, digest, server
        self.deadline, self.is_jwt, self.verified = deadline, is_jwt, verified
        self.client, self._course = client, course
        if course is not None:
            course.issuer = server.issuer

    def comes_from(self, source: str) -> None:
        """That is where the answer is from, for metrics."""
        if self._course is not None:
            self._course.source = source

    def again(self, deadline: float) -> Question:
        """The same question, with more time."""
        return Question(
            self.token,
            self.digest,
            self.server,
            deadline,
            is_jwt=self.is_jwt,
            verified=self.verified,
            client=self.client,
        )
