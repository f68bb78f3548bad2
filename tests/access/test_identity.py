"""Who is calling: an immutable value, made anew for every request."""

import copy
import gc
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.authentication import has_required_scope
from starlette.requests import Request

from bearer_middleware import Identity, ResourceServer, Settings, WSGIBearerMiddleware
from bearer_middleware.access.identity import Anonymous, Credentials
from bearer_middleware.errors import InsufficientScope
from bearer_middleware.flow.drivers import run
from bearer_middleware.testing import Issuer

MEMBERS = {
    "subject": "alice",
    "issuer": "https://as.example",
    "client_id": "shop",
    "scopes": frozenset({"read"}),
    "audience": ("orders",),
    "expires_at": 2_000_000_000,
    "issued_at": 1_700_000_000,
    "token_id": "token-1",
    "kind": "jwt",
    "is_client": False,
    "stale": False,
    "claims": {"sub": "alice", "team": {"roles": ["a"]}},
}


@pytest.fixture
def issuer() -> Issuer:
    """Signs with ES256."""
    return Issuer(algorithm="ES256")


@pytest.fixture
def server(issuer: Issuer) -> ResourceServer:
    """Trusts the issuer, in-process."""
    return ResourceServer(Settings(**issuer.settings()), transport=issuer.transport())


def shown(server: ResourceServer, token: str) -> Identity:
    """The identity of a token that is let in."""
    identity = run(server.authenticate([b"Bearer " + token.encode()]), server.transport)
    assert identity is not None
    return identity


def both_kinds(issuer: Issuer, server: ResourceServer, **claims: Any) -> Iterator[Identity]:
    """An identity of a JWT and of an opaque token, new and remembered."""
    for token in (issuer.jwt(**claims), issuer.opaque(**claims)):
        yield shown(server, token)
        yield shown(server, token)


# -- a value ------------------------------------------------------------------------------


def test_a_token_becomes_an_identity(issuer: Issuer, server: ResourceServer) -> None:
    """Every attribute of the contract has the claim's value and its own type."""
    said = {"jti": "one", "iat": 1_700_000_000, "exp": 2_000_000_000, "aud": ["api", "x"]}
    kinds = []
    for identity in both_kinds(issuer, server, sub="alice", scope="read write", **said):
        kinds.append(identity.kind)
        assert (identity.subject, identity.client_id) == ("alice", "test-client")
        assert (identity.issuer, identity.token_id) == (issuer.url, "one")
        assert (identity.issued_at, identity.expires_at) == (said["iat"], said["exp"])
        assert identity.audience == ("api", "x")
        assert identity.scopes == frozenset({"read", "write"})
        assert identity.is_client is False
        assert identity.claims["sub"] == "alice"
    assert kinds == ["jwt", "jwt", "opaque", "opaque"]


def made() -> Identity:
    """An identity that an extension makes."""
    return Identity(**MEMBERS)  # type: ignore[arg-type]


def test_an_extension_makes_one_by_keywords() -> None:
    """What is given is what is read; what is not is absent."""
    identity = made()
    assert {name: getattr(identity, name) for name in MEMBERS} == MEMBERS
    bare = Identity()
    assert (bare.subject, bare.issuer, bare.client_id, bare.expires_at) == (None,) * 4
    assert (bare.scopes, bare.audience, dict(bare.claims)) == (frozenset(), (), {})
    assert (bare.kind, bare.is_client) == ("jwt", False)
    with pytest.raises(TypeError):
        Identity("alice")  # type: ignore[misc]


def test_text_is_no_collection_of_its_characters() -> None:
    """Who hands on a claim as it came gets the scopes and the audience that it names."""
    identity = Identity(scopes="read  write", audience="orders")
    assert identity.scopes == {"read", "write"}
    assert identity.audience == ("orders",)
    assert identity.replace(scopes="").scopes == frozenset()


def test_collections_are_taken_over_as_they_were() -> None:
    """What an extension does to its own list afterwards changes no identity."""
    scopes, audience, claims = ["read"], ["orders"], {"a": 1}
    identity = Identity(scopes=scopes, audience=audience, claims=claims)
    scopes.append("admin")
    audience.append("x")
    claims["a"] = 2
    assert (identity.scopes, identity.audience) == (frozenset({"read"}), ("orders",))
    assert identity.claims == {"a": 1}


@pytest.mark.parametrize("name", [*MEMBERS, "_facts", "user_name", "groups", "new", "__dict__"])
def test_nothing_can_be_set_or_deleted(issuer: Issuer, server: ResourceServer, name: str) -> None:
    """Nobody becomes somebody else by an assignment."""
    for identity in (made(), *both_kinds(issuer, server)):
        with pytest.raises(AttributeError):
            setattr(identity, name, "admin")
        with pytest.raises(AttributeError):
            delattr(identity, name)
        assert identity.subject == "alice"


def test_claims_are_a_read_only_mapping(issuer: Issuer, server: ResourceServer) -> None:
    """Nor by an assignment to a claim."""
    for identity in (made(), *both_kinds(issuer, server)):
        with pytest.raises(TypeError):
            identity.claims["sub"] = "admin"  # type: ignore[index]
        with pytest.raises(TypeError):
            del identity.claims["sub"]  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            identity.claims.update(sub="admin")  # type: ignore[attr-defined]


def test_an_unknown_attribute_is_an_attribute_error(issuer: Issuer, server: ResourceServer) -> None:
    """Also one with an underscore, and also before anything was unfolded."""
    for identity in (made(), *both_kinds(issuer, server)):
        for name in ("email", "_subject", "__wrapped__", "token", ""):
            with pytest.raises(AttributeError, match="no attribute"):
                getattr(identity, name)
            assert not hasattr(identity, name)


def test_no_subclass_changes_what_it_is() -> None:
    """An identity is the same value everywhere; there is no dictionary to write into."""
    with pytest.raises(AttributeError):
        made().__dict__  # noqa: B018
    assert not hasattr(made(), "__dict__")


def test_repr_shows_neither_token_nor_claims(issuer: Issuer, server: ResourceServer) -> None:
    """A representation ends up in logs: it has no personal datum and no line break."""
    said = {"sub": "canary-sub", "email": "canary@example", "jti": "canary-jti", "scope": "canary"}
    for identity in both_kinds(issuer, server, **said):
        for text in (repr(identity), str(identity), f"{identity}", f"{identity!r:>80}"):
            assert "canary" not in text
            assert "\n" not in text
            assert text.isascii()
            assert identity.kind in text


def test_equal_values_are_equal(issuer: Issuer, server: ResourceServer) -> None:
    """By value, whether remembered, copied or made; and not to anything else."""
    first, again, opaque, _ = both_kinds(issuer, server, jti="one")
    assert first == again
    assert hash(first) == hash(again)
    assert first is not again
    assert first != opaque  # of another kind
    assert len({first, again, opaque}) == 2
    assert made() == made()
    assert made() != Identity(**{**MEMBERS, "token_id": "token-2"})  # type: ignore[arg-type]
    for other in (None, "alice", 7, dict(MEMBERS), object()):
        assert made() != other


OTHERS = {
    "kind": "opaque",
    "is_client": True,
    "stale": True,
    "scopes": {"x"},
    "audience": ["x"],
    "claims": {},
}


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_counts_for_equality(name: str) -> None:
    """Two identities that differ in anything are different."""
    assert made() != made().replace(**{name: OTHERS.get(name)})


def test_replace_makes_a_changed_copy(issuer: Issuer, server: ResourceServer) -> None:
    """For claim mappers: the original stays what it was."""
    for identity in (made(), *both_kinds(issuer, server)):
        other = identity.replace(subject="bob", scopes={"more"})
        assert (other.subject, other.scopes) == ("bob", frozenset({"more"}))
        assert (other.issuer, other.claims) == (identity.issuer, identity.claims)
        assert identity.subject == "alice"
        assert identity.replace() == identity
        with pytest.raises(TypeError):
            identity.replace(email="x")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_identity_can_be_sent_to_another_process(
    issuer: Issuer, server: ResourceServer, protocol: int
) -> None:
    """Pickled and back it is the same value, and as immutable; no token travels with it."""
    token = issuer.jwt()
    for identity in (made(), shown(server, token), *both_kinds(issuer, server)):
        pickled = pickle.dumps(identity, protocol)
        other = pickle.loads(pickled)
        assert other == identity
        assert hash(other) == hash(identity)
        assert other.user_name == identity.user_name
        assert other.groups == identity.groups
        assert token.encode() not in pickled
        with pytest.raises(AttributeError):
            other.subject = "admin"


def test_copies_are_equal(issuer: Issuer, server: ResourceServer) -> None:
    """A deep copy shares nothing that could be changed."""
    for identity in (made(), *both_kinds(issuer, server, team={"roles": ["a"]})):
        assert copy.copy(identity) == copy.deepcopy(identity) == identity
        copy.deepcopy(identity).claims["team"]["roles"].append("admin")
        assert identity.claims["team"] == {"roles": ["a"]}


def test_an_identity_has_no_reference_to_the_token(issuer: Issuer, server: ResourceServer) -> None:
    """Whatever it holds, the signature is not in it."""
    token = issuer.jwt()
    identity = shown(server, token)
    identity.claims  # noqa: B018 - unfold it
    held, seen = [identity], []
    while held:
        thing = held.pop()
        if not isinstance(thing, type) and id(thing) not in map(id, seen):
            seen.append(thing)
            held.extend(gc.get_referents(thing))
    signature = token.rpartition(".")[2]
    assert not [thing for thing in seen if signature in repr(thing)]
    assert not [thing for thing in seen if isinstance(thing, ResourceServer)]


# -- requests are apart -------------------------------------------------------------------


def test_claims_of_one_request_never_reach_another(issuer: Issuer, server: ResourceServer) -> None:
    """However deep a handler writes, and whoever looked first."""
    said = {"team": {"roles": ["a"], "deep": [{"x": {}}]}, "groups": ["g"]}
    for token in (issuer.jwt(**said), issuer.opaque(**said)):
        earlier = shown(server, token)
        first = shown(server, token)
        first.claims["team"]["roles"].append("admin")
        first.claims["team"]["deep"][0]["x"]["y"] = 1
        first.claims["groups"].append("admins")
        later = shown(server, token)
        for other in (earlier, later):
            assert {name: other.claims[name] for name in said} == said
            assert other.groups == {"g"}
        assert first.groups == {"g", "admins"}


def test_scopes_and_audience_do_not_follow_the_claims(
    issuer: Issuer, server: ResourceServer
) -> None:
    """What was decided upon is not what a handler made of it."""
    identity = shown(server, issuer.jwt(aud=["api"], scope=None, scp=["read"]))
    assert identity.audience == ("api",)
    identity.claims["aud"].append("x")
    identity.claims["scp"].append("admin")
    assert (identity.audience, identity.scopes) == (("api",), {"read"})


# -- Starlette's shape --------------------------------------------------------------------


def credentials(identity: Identity | None) -> Credentials:
    """As the middleware makes them."""
    made = Credentials()
    made.identity = identity
    return made


def test_starlette_sees_a_user(issuer: Issuer, server: ResourceServer) -> None:
    """``request.user`` and ``request.auth`` are what its ``requires`` looks at."""
    for identity in both_kinds(issuer, server, scope="write read"):
        scope = {"type": "http", "user": identity, "auth": credentials(identity)}
        request = Request(scope)
        assert request.user.is_authenticated is True
        assert request.user.display_name == request.user.identity == "alice"
        assert request.auth.scopes == ["read", "write", "authenticated"]
        assert has_required_scope(request, ["authenticated", "write"])
        assert not has_required_scope(request, ["admin"])


def test_starlette_sees_nobody() -> None:
    """An anonymous caller has no name and no scope at all."""
    request = Request({"type": "http", "user": Anonymous(), "auth": credentials(None)})
    assert request.user.is_authenticated is False
    assert request.user.display_name == request.user.identity == ""
    assert request.auth.scopes == []
    assert not has_required_scope(request, ["authenticated"])


def test_a_subject_that_is_absent_is_an_empty_name() -> None:
    """Frameworks want text there."""
    assert (Identity().display_name, Identity().identity) == ("", "")


@pytest.mark.parametrize("scope", ["authenticated", "authenticated authenticated", ""])
def test_a_scope_named_authenticated_says_nothing(scope: str) -> None:
    """Whoever showed a token is authenticated, and nobody else."""
    scopes = credentials(Identity(scopes=scope.split())).scopes
    assert set(scopes) == {"authenticated"}


# -- REMOTE_USER --------------------------------------------------------------------------

NAMES = [
    *(("alice", "alice"), ("é ü", "é ü"), ("a@b.example", "a@b.example"), ("ÿ", "ÿ"), ("~", "~")),
    *(("Ā", None), ("😀", None), ("a\u0142b", None), ("\u2028", None), ("\u202ea", None)),
    *(
        ("a\r\nb", None),
        ("a\0", None),
        ("\x7f", None),
        ("\x85", None),
        ("\xa0", None),
        ("\t", None),
    ),
    ("\x9b31m", None),
]


@pytest.mark.parametrize(("subject", "name"), NAMES)
def test_remote_user_is_printable_latin_1(
    issuer: Issuer, server: ResourceServer, subject: str, name: str | None
) -> None:
    """PEP 3333 has only that; what is not fit is left out rather than changed."""
    for identity in both_kinds(issuer, server, sub=subject):
        assert identity.user_name == name
        assert identity.replace().user_name == name


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({}, "alice"),
        ({"sub": "test-client"}, None),
        ({"sub": None}, None),
        ({"sub": ""}, None),
        ({"sub": None, "client_id": None, "username": "bob"}, None),
        ({"client_id": None, "azp": "alice"}, None),
        ({"client_id": None, "azp": "shop"}, "alice"),
        ({"username": "bob"}, "alice"),
    ],
)
def test_remote_user_is_the_sub_of_a_user(
    issuer: Issuer, server: ResourceServer, said: dict[str, Any], name: str | None
) -> None:
    """No client and no fallback is a user, however it is called."""
    for identity in both_kinds(issuer, server, **said):
        assert identity.user_name == name
        assert pickle.loads(pickle.dumps(identity)).user_name == name


def environ_of(server: ResourceServer, token: str, **environ: str) -> dict[str, Any]:
    """What a WSGI application sees of a request with this token."""
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    request = {"REQUEST_METHOD": "GET", "HTTP_AUTHORIZATION": f"Bearer {token}", **environ}
    WSGIBearerMiddleware(app, server=server)(request, lambda *_: None)
    return seen[0]


def test_what_the_server_set_before_does_not_survive(
    issuer: Issuer, server: ResourceServer
) -> None:
    """A client that is let in is not the user whom somebody else named."""
    for sub, name in (("alice", "alice"), ("test-client", None), ("\u0142", None)):
        environ = environ_of(server, issuer.jwt(sub=sub), REMOTE_USER="root", AUTH_TYPE="Basic")
        assert environ.get("REMOTE_USER") == name
        assert environ["AUTH_TYPE"] == "Bearer"
        assert environ["bearer_middleware.identity"].subject == sub


def test_a_name_without_its_issuer_is_nobody(issuer: Issuer) -> None:
    """With two issuers the same sub is two people, so none is named."""
    tables = [issuer.settings(), {"issuer": "https://other.example", "audience": "api"}]
    server = ResourceServer(Settings(issuers=tables), transport=issuer.transport())
    environ = environ_of(server, issuer.jwt(), REMOTE_USER="root")
    assert "REMOTE_USER" not in environ
    assert environ["bearer_middleware.identity"].subject == "alice"


# -- groups -------------------------------------------------------------------------------

nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("value"), inner),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, database=None)
@given(nested)
def test_groups_of_any_shape_are_strings(claim: Any) -> None:
    """RFC 7643 has two shapes; whatever else comes is left out and breaks nothing."""
    identity = Identity(claims={"groups": claim, "roles": claim, "entitlements": claim})
    assert identity.groups == identity.roles == identity.entitlements
    assert all(isinstance(name, str) for name in identity.groups)


# -- scopes -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
@pytest.mark.parametrize(
    ("said", "scopes"),
    [
        ({"scope": "a b"}, {"a", "b"}),
        ({"scope": ["a", "b"]}, {"a", "b"}),
        ({"scope": None, "scp": "a b"}, {"a", "b"}),
        ({"scope": None, "scp": ["a", "b"]}, {"a", "b"}),
        ({"scope": "", "scp": "a"}, set()),
        ({"scope": None}, set()),
        ({"scope": "  a  "}, {"a"}),
    ],
)
def test_scopes_in_all_their_spellings(
    issuer: Issuer, server: ResourceServer, kind: str, said: dict[str, Any], scopes: set[str]
) -> None:
    """A string or a list, under the name of the RFC or the one Okta and Entra use."""
    assert shown(server, getattr(issuer, kind)(**said)).scopes == scopes


def test_scopes_are_compared_by_case_and_as_a_whole(issuer: Issuer) -> None:
    """``Read`` is not ``read``, and ``read`` is no part of ``read:all``."""
    said = issuer.settings(required_scopes="read")
    server = ResourceServer(Settings(**said), transport=issuer.transport())
    for scope in ("Read", "READ", "read:all", "rea d", "read\tx", "xread", ""):
        with pytest.raises(InsufficientScope):
            shown(server, issuer.jwt(scope=scope))
    assert shown(server, issuer.jwt(scope="x read"))
