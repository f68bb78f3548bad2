"""The table of promises: each row, and the tests that show it.

Rows are shown in this folder, in both worlds and over real sockets; beside them stand the tests
elsewhere that look closer. ``(world)`` behind a name: that row is about one world only.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
KEYS, ASKING = "failures/test_rows_keys.py", "failures/test_rows_introspection.py"
STORE, REQUESTS = "failures/test_rows_store.py", "failures/test_rows_requests.py"
PROCESSES = "failures/test_rows_processes.py"

TABLE: dict[str, tuple[str, ...]] = {
    "IdP down at start-up": (
        f"{KEYS}::test_idp_down_at_start_up",
        f"{KEYS}::test_idp_down_at_start_up_with_a_bootstrap_set",
        "web/test_start_and_stop.py::test_an_issuer_that_is_down_at_the_start",
        "test_health.py::test_readiness_comes_without_traffic_over_wsgi",
    ),
    "JWKS slow, 500, reset": (
        f"{KEYS}::test_jwks_slow_or_reset",
        f"{KEYS}::test_jwks_500",
        f"{KEYS}::test_jwks_hangs_and_one_fetch_is_under_way",
        f"{KEYS}::test_wrong_content_length",
        f"{KEYS}::test_half_open",
        f"{KEYS}::test_tls_failure",
        f"{KEYS}::test_slow_dns",
        "issuer/test_keys.py::test_keys_serve_through_an_outage_up_to_max_stale",
        "issuer/test_tls.py::test_a_server_that_nobody_vouches_for_dsc_5",
    ),
    "JWKS garbage, HTML, empty set, wrong types": (
        f"{KEYS}::test_jwks_garbage",
        "issuer/test_keys.py::test_a_bad_document_never_replaces_a_good_set",
    ),
    "JWKS huge, gzip bomb, deep JSON": (
        f"{KEYS}::test_jwks_huge",
        "flow/test_transport.py::test_a_body_is_cut_at_the_limit",
        "flow/test_transport.py::test_nothing_is_decompressed",
        "tokens/test_keys.py::test_a_hundred_keys_are_read",
    ),
    "JWKS drip": (
        f"{KEYS}::test_jwks_drip",
        "flow/test_transport.py::test_the_time_limit_holds_against_a_drip",
    ),
    "JWKS redirect, other host, SSRF": (
        f"{KEYS}::test_jwks_redirect",
        f"{KEYS}::test_jwks_of_another_host",
        "issuer/test_metadata.py::test_another_issuer_is_not_used_dsc_1",
        "issuer/test_metadata.py::test_junk_causes_no_fetch_dsc_8",
    ),
    "kty oct, private keys, use enc, wrong key_ops, weak RSA, duplicate kids": (
        f"{KEYS}::test_unusable_keys_are_dropped",
        "tokens/test_keys.py::test_an_unusable_key_is_skipped_and_the_rest_serves",
        "tokens/test_keys.py::test_short_rsa_keys_are_not_used",
    ),
    "key rotated": (
        f"{KEYS}::test_key_rotated",
        "issuer/test_keys.py::test_a_removed_key_ends_within_the_ttl",
    ),
    "unknown-kid flood, up or down": (
        f"{KEYS}::test_unknown_kid_flood",
        f"{KEYS}::test_unknown_kid_while_the_fetch_hangs",
        "floods/test_floods.py::test_a_flood_of_unknown_kids_does_not_delay_a_rotation",
    ),
    "clock skew, clock jump": (
        f"{ASKING}::test_clock_skew",
        f"{ASKING}::test_clock_jump",
        "issuer/test_introspection.py::test_a_clock_set_back_revives_nothing",
    ),
    "introspection slow": (
        f"{ASKING}::test_introspection_slow_or_reset",
        f"{ASKING}::test_introspection_slow_bulkhead",
        f"{ASKING}::test_introspection_drip",
        f"{KEYS}::test_half_open",
        "concurrency/test_overload.py::test_a_server_that_hangs_takes_twenty_callers",
        "concurrency/test_overload.py::test_a_server_that_hangs_takes_twenty_threads",
    ),
    "500, 502, 503, 504": (
        f"{ASKING}::test_introspection_500",
        "contract/test_overload.py::test_a_server_that_fails",
        "memory/test_stale_answers.py::test_nothing_stale_serves_by_default",
    ),
    "429, Retry-After": (
        f"{ASKING}::test_429_retry_after",
        "contract/test_overload.py::test_introspection_asks_for_patience",
        "contract/test_overload.py::test_documents_ask_for_patience",
    ),
    "401 or 403 for our credentials": (
        f"{ASKING}::test_our_credentials_are_refused",
        f"{ASKING}::test_client_secret_rotated",
        "issuer/test_replaced_files.py::test_a_refused_secret_is_looked_at_at_once",
        "test_health.py::test_refused_credentials",
    ),
    "malformed body, list, HTML login page with 200": (
        f"{ASKING}::test_malformed_body",
        f"{ASKING}::test_a_gzip_bomb",
        "issuer/test_introspection.py::test_what_is_no_answer_is_503_and_no_verdict",
    ),
    "active as a word, a number, a list, or missing": (
        f"{ASKING}::test_malformed_body",
        "issuer/test_introspection.py::test_active_is_json_true_or_false_int_3",
    ),
    "duplicate JSON members, NaN, BOM, UTF-16, lone surrogates": (
        f"{ASKING}::test_malformed_body",
        f"{ASKING}::test_what_is_no_json_in_a_token",
        f"{KEYS}::test_jwks_garbage",
    ),
    "exp, scope and aud of odd types": (
        f"{ASKING}::test_members_of_an_answer",
        f"{ASKING}::test_members_of_a_token",
    ),
    "Redis down, stalled, slow, OOM, READONLY, WRONGTYPE": (
        f"{STORE}::test_redis_down",
        f"{STORE}::test_redis_stopped",
        f"{STORE}::test_redis_stalled_and_the_issuer_too",
        f"{STORE}::test_redis_oom_or_readonly",
        f"{STORE}::test_redis_wrongtype",
        "fleet/test_fleet_cache.py::test_it_restarts",
        "fleet/test_fleet_cache.py::test_silence_costs_little",
    ),
    "Redis data tampered": (
        f"{STORE}::test_redis_data_tampered",
        "fleet/test_fleet_cache.py::test_another_ones_value",
        "memory/test_shared_cache.py::test_an_old_value_is_a_miss",
    ),
    "fork after import": (
        f"{PROCESSES}::test_fork",
        "concurrency/test_processes.py::test_a_lock_that_was_held_at_the_fork",
        "concurrency/test_processes.py::test_building_creates_nothing",
        "fleet/test_fleet_herd.py::test_after_a_fork",
    ),
    "event-loop change": (
        f"{PROCESSES}::test_event_loop_change",
        f"{PROCESSES}::test_a_loop_that_dies_in_the_middle (asgi)",
        "concurrency/test_processes.py::test_many_loops_in_many_threads",
    ),
    "threads": (
        f"{PROCESSES}::test_threads",
        "flow/test_ring.py::test_eight_threads_never_get_anothers_entry",
        "concurrency/test_single_flight.py::test_two_hundred_threads",
    ),
    "gevent": (
        f"{PROCESSES}::test_gevent (wsgi)",
        "concurrency/test_processes.py::test_greenlets",
    ),
    "client disconnect, cancellation": (
        f"{PROCESSES}::test_client_disconnect",
        "concurrency/test_single_flight.py::test_a_storm_of_cancellations",
        "floods/test_floods.py::test_an_outage_is_nobodys_fault",
    ),
    "memory pressure": (
        f"{PROCESSES}::test_memory_pressure",
        "floods/test_soak.py::test_soak",
    ),
    "oversize token": (f"{REQUESTS}::test_oversize_token",),
    "two Authorization headers": (
        f"{REQUESTS}::test_two_authorization_headers",
        "servers/test_servers.py::test_two_headers_are_refused",
    ),
    "tab, spaces, obs-fold, NUL, ESC, Latin-1": (
        f"{REQUESTS}::test_odd_bytes",
        f"{REQUESTS}::test_a_scheme_has_no_case_and_spaces_may_be_many",
        "servers/test_servers.py::test_bytes_that_are_no_text_are_refused",
    ),
    "token in query, body, cookie": (f"{REQUESTS}::test_token_in_query_body_cookie",),
    "kid injection": (
        f"{REQUESTS}::test_kid_injection",
        "tokens/test_lessons.py::test_azure_no_text_of_a_token_reaches_a_log",
    ),
    "alg confusion, none, psychic, empty key": (
        f"{REQUESTS}::test_alg_confusion",
        f"{REQUESTS}::test_psychic_signatures",
        "tokens/test_lessons.py::test_python_jose_33663_no_confusion_of_algorithms",
    ),
    "malleable signature, padding": (
        f"{REQUESTS}::test_malleable_signature",
        "memory/test_revocation.py::test_a_respelled_token_is_revoked_as_well",
    ),
    "log injection": (f"{REQUESTS}::test_log_injection_and_token_leakage",),
    "token leakage": (
        f"{REQUESTS}::test_log_injection_and_token_leakage",
        f"{REQUESTS}::test_tracebacks_hold_no_token",
        "leaks/test_canaries.py::test_tracebacks_with_locals_do_not_show_the_token",
        "leaks/test_canaries.py::test_no_object_keeps_the_token_after_the_request",
        "fleet/test_fleet_cache.py::test_no_token_and_no_secret",
    ),
    "identity object": (
        f"{REQUESTS}::test_identity_object",
        "access/test_identity.py::test_repr_shows_neither_token_nor_claims",
        "access/test_identity.py::test_nothing_can_be_set_or_deleted",
    ),
}
# Timing is not in it: that lookups go by digest and secrets are compared in constant time is
# plain to read, and cannot be shown by a test that does not take times.


@cache
def names_in(file: str) -> frozenset[str]:
    """The tests of a file, those of its classes too."""
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", TABLE)
def test_every_row_is_shown(row: str) -> None:
    """By tests that are there."""
    for reference in TABLE[row]:
        file, _, name = reference.partition(" (")[0].partition("::")
        assert name in names_in(file), reference


def test_every_test_of_this_folder_is_of_a_row() -> None:
    """Or the table would be behind."""
    shown = {each.partition(" (")[0] for tests in TABLE.values() for each in tests}
    for file in (KEYS, ASKING, STORE, REQUESTS, PROCESSES):
        there = {f"{file}::{name}" for name in names_in(file) if name.startswith("test_")}
        assert there - shown <= BESIDE


#: Not promised by a row: by the contract.
BESIDE = {f"{ASKING}::test_an_unknown_issuer_asks_nobody"}
