"""What the settings of a decision point need, beside each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import permutations
from typing import Any

from bearer_middleware.settings.grammar import is_loopback, is_plain
from bearer_middleware.settings.report import Report

#: RFC 6750 section 2.1: b64token.
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*")
_REMOTE = ("authzen", "permit", "opa")
_PARTS = ("policy_url", "policy_token", "policy_file", "policy_options", "policy_cache_ttl")


def validate_policy(values: Mapping[str, Any], report: Report) -> None:
    """A decision point elsewhere has an address, one in this process has a file."""
    _changes(values, report)
    policy = values["policy"]
    if policy is None:
        # A point of the user's own may be cached, and be told of subjects in its own words.
        for name in _PARTS[:-2]:
            if values[name]:
                wrong = f"has no use without {report.name('policy')}"
                report.mistake(name, wrong, "policy")
        return
    needed, useless = ("policy_url", "policy_file")[:: 1 if policy in _REMOTE else -1]
    said = f"{report.name('policy')}={policy}"
    if values[needed] is None and not (policy == "local" and values["policy_options"]):
        report.mistake(needed, f"is required with {said}", "policy")
    useless_ones = (useless,) if policy in _REMOTE else (useless, "policy_token")
    for name in useless_ones:
        if values[name] is not None:
            report.mistake(name, f"has no use with {said}", "policy")
    if values["policy_url"] is not None and policy in _REMOTE:
        _address(values["policy_url"], values, report)


def _changes(values: Mapping[str, Any], report: Report) -> None:
    """Who tells of changes proves that they may: anybody else could empty the cache all day."""
    for one, other in permutations(("policy_changed_path", "policy_changed_token")):
        if values[one] is not None and values[other] is None:
            report.mistake(other, f"is required with {report.name(one)}", one)
    token = values["policy_changed_token"]
    if token is not None and not _BEARER.fullmatch(token.reveal()):
        report.mistake("policy_changed_token", "must be letters, digits and -._~+/ to be sent")


def _address(url: str, values: Mapping[str, Any], report: Report) -> None:
    """Plain http is for a decision point on this machine, as a sidecar is."""
    if not is_plain(url) or is_loopback(url):
        return
    if not values["allow_insecure_http"]:
        allowed = f"{report.name('allow_insecure_http')}=true for development"
        wrong = f"goes over http to another machine; use https, or {allowed}"
        report.mistake("policy_url", wrong, "allow_insecure_http")
    else:
        wrong = "goes over http to another machine, so anybody on the way can say yes"
        report.warning("policy_url", wrong)
