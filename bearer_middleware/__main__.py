"""``bearer-middleware``, or ``python -m bearer_middleware``: the commands."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

_DISTRIBUTION = "bearer-middleware"
_NO_TOKEN = "no token on standard input; pipe one in, it does not belong on a command line"
# What argparse would repeat may be a token: others can read the output, and logs keep it.
_REPEATED = re.compile(
    r"(unrecognized arguments|ambiguous option|ignored explicit argument|invalid choice).*",
    re.DOTALL,
)
_EPILOG = "Exit status: 0 all is well, 1 something is refused or wrong, 2 usage."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    parser = _parser()
    if sys.stdin is None:  # closed by whoever started this: nothing can be read from it
        sys.stdin = io.TextIOWrapper(io.BytesIO())
    try:
        arguments = parser.parse_args(argv)
        return int(arguments.run(arguments))
    except SystemExit as end:  # argparse has said what there was to say
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:  # whoever read the output has gone, and it would be flushed once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(_REPEATED.sub(r"\1 (not repeated here)", message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_DISTRIBUTION,
        description="Bearer tokens for ASGI and WSGI applications: see it, set it up, mend it.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"{_DISTRIBUTION} {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_check(commands)
    _add_explain(commands)
    _add_revoke(commands)
    _add_audit(commands)
    _add_surface(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = (
        "An authorization server, a protected ASGI API and a protected WSGI API on this machine, "
        "with curl lines to try them. It serves until it is interrupted (Ctrl-C)."
    )
    demo = commands.add_parser("demo", help="see it work", description=text, epilog=_EPILOG)
    for name in ("asgi", "wsgi", "issuer"):
        whose = "authorization server" if name == "issuer" else f"{name.upper()} API"
        demo.add_argument(
            f"--{name}-port",
            type=_port,
            default=0,
            metavar="PORT",
            help=f"port of the {whose} (default: a free one)",
        )
    told = "make each of the printed requests, print what came, and end"
    demo.add_argument("--once", action="store_true", help=told)
    demo.set_defaults(run=_demo)


def _add_check(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = (
        "Reads the BEARER_* variables, contacts what they name, and says what is wrong and how "
        "to mend it. Nothing else is contacted, and no secret is printed."
    )
    told = "find out what is wrong with the settings"
    check = commands.add_parser("check", help=told, description=text, epilog=_EPILOG)
    _add_config(check)
    told = (
        "read a good token from standard input and show it to its introspection endpoint, to "
        "see what the answers name"
    )
    check.add_argument("--token", action="store_true", help=told)
    check.set_defaults(run=_check)


def _add_explain(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = (
        "Reads a token, or a whole Authorization header, from standard input, and tells step by "
        "step why an API with these BEARER_* variables accepts or refuses it. The token is not "
        "printed."
    )
    told = "find out why a token is refused"
    explain = commands.add_parser("explain", help=told, description=text, epilog=_EPILOG)
    _add_config(explain)
    told = "of a request: its route, the decision and the answer are told besides; with --path"
    explain.add_argument("--method", metavar="GET", help=told)
    told = "of the same request: below the mount point, percent-encoded, without its query"
    explain.add_argument("--path", metavar="/PATH", help=told)
    explain.set_defaults(run=_explain, error=explain.error)


def _add_revoke(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = (
        "Revokes one thing in all processes that read the feed at BEARER_REVOCATION_URL, and ends "
        "with 0 only once the feed has acknowledged it. A token is read from standard input, and "
        "not printed."
    )
    told = "end a token, a session, or all of a subject or client"
    revoke = commands.add_parser("revoke", help=told, description=text, epilog=_EPILOG)
    _add_config(revoke)
    revoke.add_argument("--issuer", metavar="ISS", help="whose tokens; not with --token")
    what = revoke.add_mutually_exclusive_group(required=True)
    what.add_argument("--token-id", metavar="JTI", help="the token with this jti")
    what.add_argument("--session", metavar="SID", help="the tokens with this sid")
    what.add_argument("--subject", metavar="SUB", help="the tokens of this sub, up to --before")
    what.add_argument("--client", metavar="ID", help="the tokens of this client_id, likewise")
    what.add_argument("--token", action="store_true", help="the token on standard input")
    told = "issued up to then: seconds since the epoch, or a date and time with its zone; now"
    revoke.add_argument("--before", metavar="TIME", type=_time, help=told)
    revoke.set_defaults(run=_revoke, error=revoke.error)


def _add_audit(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = (
        "Reads the JSON lines that BEARER_AUDIT wrote to a file, and prints one line for each "
        "event that is asked for. Lines that are no events are counted, and left out."
    )
    told = "read the audit trail: who was let in to what, and why"
    audit = commands.add_parser("audit", help=told, description=text, epilog=_EPILOG)
    audit.add_argument("file", metavar="FILE", help="the file; - is standard input")
    audit.add_argument("--subject", metavar="ID", help="of this subject")
    audit.add_argument("--resource", metavar="TYPE[:ID]", help="on this type, or this one resource")
    outcomes = ("permit", "deny", "not_applicable", "indeterminate", "fail_open")
    told = f"with this outcome: {', '.join(outcomes)}"
    audit.add_argument("--outcome", choices=outcomes, metavar="WORD", help=told)
    told = "since then: a date and time with its zone, seconds since the epoch, or 15m ago"
    audit.add_argument("--since", metavar="TIME", type=_since, help=told)
    audit.add_argument("--json", action="store_true", help="print the events as they are")
    audit.set_defaults(run=_audit)


def _add_surface(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = (
        "Imports a Starlette, FastAPI, Django or Flask application, with this directory first, and "
        "lists its routes with what protects them. Ends with 1 where one is open and no setting "
        "says so. Nothing is served, and nobody is asked."
    )
    told = "list all routes and what protects them"
    surface = commands.add_parser("surface", help=told, description=text, epilog=_EPILOG)
    told = "module:attribute, or module:factory()"
    surface.add_argument("application", metavar="MODULE:APP", help=told)
    surface.add_argument("--json", action="store_true", help="for programs")
    surface.set_defaults(run=_surface)


def _add_config(parser: argparse.ArgumentParser) -> None:
    told = "TOML file with settings; wins over BEARER_CONFIG_FILE, variables win over what is in it"
    parser.add_argument("--config", metavar="FILE", help=told)


def _demo(arguments: argparse.Namespace) -> int:
    from bearer_middleware.commands.demo import Ports, demo

    ports = Ports(arguments.issuer_port, arguments.asgi_port, arguments.wsgi_port)
    return demo(ports, sys.stdout, once=arguments.once)


def _check(arguments: argparse.Namespace) -> int:
    from bearer_middleware.commands.check import check
    from bearer_middleware.commands.token_input import authorization

    header = authorization(sys.stdin) if arguments.token else None
    if arguments.token and header is None:
        return _misused()
    return check(os.environ, sys.stdout, config_file=arguments.config, authorization=header)


def _explain(arguments: argparse.Namespace) -> int:
    from bearer_middleware.commands.explain import explain
    from bearer_middleware.commands.request_input import request_of
    from bearer_middleware.commands.token_input import authorization

    request = None
    try:
        request = request_of(arguments.method, arguments.path)
    except ValueError as error:
        arguments.error(str(error))
    header = authorization(sys.stdin)
    if header is None:
        return _misused()
    return explain(os.environ, header, sys.stdout, config_file=arguments.config, request=request)


def _revoke(arguments: argparse.Namespace) -> int:
    from bearer_middleware.commands.revoke import revoke
    from bearer_middleware.commands.token_input import authorization
    from bearer_middleware.revocation.request import Revocation

    if arguments.token and (arguments.issuer is not None or arguments.before is not None):
        arguments.error("--token stands alone: the token says whose it is, and ends for good")
    if not arguments.token and arguments.issuer is None:
        arguments.error("--issuer is required")
    if arguments.before is not None and not (arguments.subject or arguments.client):
        arguments.error("--before goes with --subject or --client; all else ends for good")
    header = authorization(sys.stdin) if arguments.token else None
    if arguments.token and header is None:
        return _misused()
    said = Revocation(
        issuer=arguments.issuer,
        token_id=arguments.token_id,
        session=arguments.session,
        subject=arguments.subject,
        client=arguments.client,
        before=arguments.before,
    )
    config = arguments.config
    return revoke(os.environ, said, sys.stdout, authorization=header, config_file=config)


def _audit(arguments: argparse.Namespace) -> int:
    from bearer_middleware.commands.audit import Wanted, audit

    wanted = Wanted(
        subject=arguments.subject,
        resource=arguments.resource,
        outcome=arguments.outcome,
        since=arguments.since,
    )
    standard = sys.stdin.buffer
    return audit(arguments.file, standard, sys.stdout, sys.stderr, wanted, as_json=arguments.json)


def _surface(arguments: argparse.Namespace) -> int:
    from bearer_middleware.commands.surface.command import surface

    return surface(arguments.application, sys.stdout, sys.stderr, as_json=arguments.json)


def _misused() -> int:
    print(f"{_DISTRIBUTION}: {_NO_TOKEN}", file=sys.stderr)
    return 2


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or int(text) > 65_535:
        raise argparse.ArgumentTypeError("a port is a number up to 65535")
    return int(text)


def _time(text: str) -> float:
    from datetime import datetime

    try:
        if text.replace(".", "", 1).isdecimal() and len(text) < 20:
            return float(text)
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.timestamp()
    except (ValueError, OverflowError):
        pass
    wanted = "a time is seconds since the epoch, or like 2026-11-28T12:00:00+00:00"
    raise argparse.ArgumentTypeError(wanted)


def _since(text: str) -> float:
    import time

    if match := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        return time.time() - int(match[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[match[2]]
    return _time(text)


def _version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
