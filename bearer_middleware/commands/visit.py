"""A visit to one authorization server: all it has to give, by the very ways requests go."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field

from bearer_middleware.commands.advice import advice, other_issuer, outcome
from bearer_middleware.commands.clocks import clocks
from bearer_middleware.commands.findings import Finding, Level, address
from bearer_middleware.commands.ledger import guarded
from bearer_middleware.commands.witness import Exchange, Witness
from bearer_middleware.errors import InvalidToken, Reason, TransportError, Unavailable
from bearer_middleware.flow.clock import Clock
from bearer_middleware.flow.effects import Flow
from bearer_middleware.issuer.server import AuthorizationServer
from bearer_middleware.settings.grammar import is_loopback, is_plain
from bearer_middleware.settings.issuers import CREDENTIALS
from bearer_middleware.settings.report import Report
from bearer_middleware.tokens.keys import KeySet, read_jwks

_ENDPOINTS = {"jwks_uri": "jwks_url", "introspection_endpoint": "introspection_url"}
_INSECURE = Report().name("allow_insecure_http")
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Visit:
    """What is found at ``server``, configured in ``place``; ``timeout`` is of each exchange."""

    server: AuthorizationServer
    place: Report
    witness: Witness
    timeout: float
    clock: Clock = field(default_factory=Clock)
    #: Endpoints that the metadata should name, and does not.
    missing: set[str] = field(default_factory=set[str], init=False)

    def findings(self) -> Flow[list[Finding]]:
        """All of them, in the order in which one thing rests on another."""
        found = self._dangers()
        for stage in (self._metadata, self._keys, self._introspection):
            try:
                found += yield from stage()
            except Exception as error:  # noqa: BLE001 - where much is wrong, the rest is still told
                name = self.place.label("issuer")
                found.append(Finding("fail", name, f"unexpected: {type(error).__name__}"))
        leeway = self.server.settings.leeway
        return found + clocks(self.witness.exchanges, leeway, self.place)

    def _dangers(self) -> list[Finding]:
        """What is allowed, but should not be forgotten when this goes into production."""
        settings, found = self.server.settings, []
        for name in ("issuer", "jwks_url", "introspection_url"):
            url = getattr(settings, name) or ""
            if is_plain(url) and is_loopback(url):  # of others the settings themselves warn
                text = f"goes over http, which {_INSECURE} allows for development only"
                found.append(self._finding("warn", name, text))
        if settings.allow_any_audience:
            text = "a token meant for any other API is accepted, too: set the audience instead"
            found.append(self._finding("warn", "allow_any_audience", text))
        return found + self._of_provider()

    def _of_provider(self) -> list[Finding]:
        """What becomes of opaque tokens, where that depends on the product."""
        preset, name = self.server.preset, "provider"
        if preset.asked == "userinfo":
            text = (
                "userinfo says who somebody is, and not for whom a token is: an opaque token that "
                "any application of this tenant got is accepted"
            )
            return [self._finding("warn", "provider_opaque", text)]
        if preset.opaque_advice and self.server.introspection is None:
            text = f"{preset.title}; opaque tokens are refused. {preset.opaque_advice}"
            return [self._finding("ok", name, text)]
        return [self._finding("ok", name, preset.title)] if preset.title else []

    # -- metadata ------------------------------------------------------------------------

    def _metadata(self) -> Flow[list[Finding]]:
        found: list[Finding] = []
        metadata = self.server.metadata
        if metadata is None:
            return found
        self.missing.update(self._needed())
        for endpoint in self._needed():
            seen = len(self.witness.exchanges)
            try:
                url = yield from guarded(metadata.endpoint(endpoint, self._deadline()))
            except Unavailable as failure:
                exchanges = self.witness.exchanges[seen:]
                found.append(self._no_endpoint(endpoint, failure, exchanges))
                if failure.reason is Reason.METADATA_UNAVAILABLE:
                    break
            else:
                self.missing.remove(endpoint)
                text = f"the metadata is that of this issuer, its {endpoint} is {address(url)}"
                found.append(self._finding("ok", "issuer", text))
        return found

    def _needed(self) -> list[str]:
        settings, names = self.server.settings, []
        configured = (settings.jwks_url, settings.jwks_file, settings.hmac_secret)
        if self._needs_keys() and not any(configured):
            names.append("jwks_uri")
        if settings.introspection and settings.introspection_url is None:
            names.append("introspection_endpoint")
        return names

    def _needs_keys(self) -> bool:
        settings = self.server.settings
        if settings.introspection_signed:
            return True
        return settings.local_validation and settings.jwt_validation != "introspect"

    def _no_endpoint(
        self, endpoint: str, failure: Unavailable, exchanges: list[Exchange]
    ) -> Finding:
        keyword, issuer = _ENDPOINTS[endpoint], self.server.issuer or ""
        setting = self.place.name(keyword)
        if failure.reason is Reason.MISCONFIGURED:
            text = f"{failure.detail} (one over https, or http where that is allowed); set this"
            if endpoint == "introspection_endpoint":
                text += f", or leave out {self.place.name('client_id')} if all tokens are JWTs"
            return self._finding("fail", keyword, text, failure)
        if other_issuer(exchanges, issuer):
            text = "must be exactly what the server calls itself, trailing slash and all"
        else:
            text = f"its metadata {advice(failure.detail, self.place)}"
            if not failure.detail.startswith(("connect", "timeout")):
                end = "" if text.endswith("?") else "."
                text += f"{end} A server without metadata needs {setting}"
        # What is tried once more ends alike, mostly.
        tried = "; ".join(dict.fromkeys(outcome(exchange, issuer) for exchange in exchanges))
        return self._finding("fail", "issuer", f"{text} ({tried})", failure)

    # -- keys ----------------------------------------------------------------------------

    def _keys(self) -> Flow[list[Finding]]:
        settings = self.server.settings
        if not self._needs_keys() or "jwks_uri" in self.missing:
            return []
        if settings.hmac_secret is not None:
            names = ", ".join(settings.algorithms)
            return [self._finding("ok", "hmac_secret", f"serves {names}; nothing is fetched")]
        keyword = "jwks_file" if settings.jwks_file is not None else "jwks_url"
        if keyword == "jwks_url" and settings.jwks_url is None:
            keyword = "issuer"
        seen = len(self.witness.exchanges)
        try:
            keys = yield from self.server.fetch_keys(self._deadline())
        except (TransportError, Unavailable) as failure:
            last = self.witness.exchanges[seen:][-1:]
            return [self._finding("fail", keyword, self._no_keys(failure.detail, last))]
        return self._of_keys(keyword, keys)

    def _no_keys(self, detail: str, exchanges: list[Exchange]) -> str:
        why = "".join(self._why_no_set(e.body) for e in exchanges if e.status == 200)
        where = "".join(f" {address(exchange.url)}" for exchange in exchanges)
        return f"the key set{where} {advice(detail + why, self.place)}"

    def _why_no_set(self, body: bytes) -> str:
        try:
            read_jwks(body, self.server.settings.algorithms)
        except ValueError as error:
            # What is no plain ValueError has words of a parser, which may quote the document.
            return f": {error}" if type(error) is ValueError else ": not JSON"
        return ""

    def _of_keys(self, keyword: str, keys: KeySet) -> list[Finding]:
        why = "; ".join(keys.skipped[:_SHOWN])
        if not keys.keys:
            text = f"the key set has no usable key: {why or 'it is empty'}"
            return [self._finding("fail", keyword, text)]
        counts = Counter("/".join(sorted(key.algorithms)) for key in keys.keys)
        names = ", ".join(f"{count} {name}" for name, count in counts.items())
        found = [self._finding("ok", keyword, f"usable keys: {names}")]
        if why:
            text = f"tokens signed by these keys are refused: {why}"
            found.append(self._finding("warn", keyword, text))
        return found

    # -- introspection -------------------------------------------------------------------

    def _introspection(self) -> Flow[list[Finding]]:
        """Ask about a token that nobody has issued."""
        asked = self.server.introspection
        if asked is None or "introspection_endpoint" in self.missing:
            return []
        prefix = self.server.settings.token_prefix or ""
        token = f"{prefix}bearer-middleware-check-{secrets.token_urlsafe(24)}"
        try:
            yield from asked.ask(token.encode(), self._deadline())
        except InvalidToken:
            text = "the introspection endpoint answers us, and knows nothing of a random token"
            return [self._finding("ok", "introspection_url", text)]
        except Unavailable as failure:
            return [self._no_answer(failure)]
        text = "the introspection endpoint says that a random token is active: it lets anybody in"
        return [self._finding("fail", "introspection_url", text)]

    def _no_answer(self, failure: Unavailable) -> Finding:
        detail, method = failure.detail, self.server.settings.client_auth
        if failure.reason is Reason.MISCONFIGURED or "invalid_client" in detail:
            needed = (*CREDENTIALS[method][0], "client_auth")
            names = ", ".join(self.place.name(name) for name in needed)
            text = f"introspection: {detail}: are {names} right, and is that client allowed to ask?"
            name = "client_auth" if method == "none" else CREDENTIALS[method][0][-1]
            return self._finding("fail", name, text, failure)
        text = f"the introspection endpoint {advice(detail, self.place)}"
        return self._finding("fail", "introspection_url", text, failure)

    # ------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return self.clock.monotonic() + self.timeout

    def _finding(
        self, level: Level, keyword: str, text: str, refusal: Unavailable | None = None
    ) -> Finding:
        return Finding(level, self.place.label(keyword), text, refusal)
