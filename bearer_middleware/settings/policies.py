"""What the settings of a decision point need, beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bearer_middleware.settings.grammar import is_loopback, is_plain
from bearer_middleware.settings.report import Report

_REMOTE = ("authzen", "permit", "opa")
_PARTS = ("policy_url", "policy_token", "policy_file", "policy_options", "policy_cache_ttl")


def validate_policy(values: Mapping[str, Any], report: Report) -> None:
    """A decision point elsewhere has an address, one in this process has a file."""
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
