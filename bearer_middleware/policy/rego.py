"""``BEARER_POLICY=rego``: Rego in this process, by regorus (``opa-eval``, extra ``rego``) or by
rego-cpp (``regopy``).

``input`` is the request as AuthZEN has it: ``input.subject.id``, ``input.action.name``,
``input.resource.properties``, ``input.context``. ``BEARER_POLICY_OPTIONS`` may have

``decision_path``  the rule that decides, ``authz/allow`` unless told otherwise;
                   ``data.authz.allow`` means the same
``data``           a JSON file, which the policy finds below ``data``
``engine``         ``regorus`` or ``regopy``; the first that is installed

A rule that is undefined is not applicable. Else it is true or false, or an object with a boolean
``allow`` and, if it likes, ``reasons``, ``user_reason``, ``obligations``, ``acr_values``,
``max_age`` and ``id``. Whatever else it is, nobody can know.

An interpreter serves one caller at a time, so there are as many as callers at once: one of
rego-cpp that threads shared would mix up their questions.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from bearer_middleware.errors import ConfigError
from bearer_middleware.policy.engines import Engine, Pool, engine
from bearer_middleware.policy.kept import Given, Held, InFiles, is_panic, version_of
from bearer_middleware.policy.members import members_of
from bearer_middleware.policy.model import AccessRequest, Decision, information
from bearer_middleware.policy.point import Surroundings
from bearer_middleware.policy.verdict import UNDEFINED, verdict
from bearer_middleware.settings import Settings, parsing

#: Gives the result of the deciding rule for an input in JSON, or ``UNDEFINED``.
Interpreter = Callable[[str], Any]

_MODULES = {"regorus": "opa_eval", "regopy": "regopy"}
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
#: Where the engines say that a policy is wrong: by line and column, or by offset and length.
_LINE, _OFFSET = re.compile(r":(\d+):\d+"), re.compile(r":policy\|(\d+)\|")
_PACKAGE = re.compile(r"(?m)^[ \t]*package[ \t]+\S")
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class RegoRules:
    """A policy, compiled as often as there are callers at once. Raises ``ValueError``."""

    def __init__(self, make: Callable[[], Interpreter], version: str) -> None:
        self.version = version
        self._pool = Pool(make)
        #: Of the results that are most: made once.
        self.usual: dict[bool, Decision] = {}
        self.ask('{"subject":{},"action":{},"resource":{}}')

    def ask(self, document: str) -> Any:
        """What the deciding rule says of ``document``."""
        interpret = self._pool.take()
        result = interpret(document)
        self._pool.give_back(interpret)
        return result


class RegoPolicy(Engine):
    """Decides by a Rego policy. ``data`` is the text of a JSON document. Raises ``ConfigError``."""

    def __init__(
        self,
        policy: str | Held[RegoRules],
        *,
        decision_path: str = "authz/allow",
        data: str = "",
        engine: str | None = None,
        name: str = "rego",
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(name, surroundings)
        if isinstance(policy, str):
            compiler = compiler_of(_path(decision_path), engine)
            try:
                self._held: Held[RegoRules] = Given(compiler(policy, data))
            except ValueError as error:
                raise ConfigError(f"the Rego policy: {error}") from None
        else:
            self._held = policy

    def _judge(self, request: AccessRequest) -> Decision:
        rules = self._held.current()
        result = rules.ask(_encode(information(request)))
        if result is True or result is False:
            decision = rules.usual.get(result)
            if decision is None:
                decision = rules.usual[result] = self._verdict(result, rules)
            return decision
        return self._verdict(result, rules)

    def _verdict(self, result: Any, rules: RegoRules) -> Decision:
        return verdict(result, point=self.name, version=rules.version)


def open_point(settings: Settings, surroundings: Surroundings) -> RegoPolicy:
    """The policy of ``BEARER_POLICY_FILE``. Raises ``ConfigError``."""
    said = members_of(settings.policy_options, _OPTIONS)
    sources = [("BEARER_POLICY_FILE", settings.policy_file or "")]
    if "data" in said:
        sources.append(("BEARER_POLICY_OPTIONS data", said["data"]))
    path = said.get("decision_path", "authz.allow")
    held = InFiles(sources, compiler_of(path, said.get("engine")), surroundings)
    return RegoPolicy(held, surroundings=surroundings)


def compiler_of(path: str, name: str | None = None) -> Callable[..., RegoRules]:
    """What compiles the text of a policy, and of a JSON document, for a rule. Raises
    ``ConfigError`` where no engine is installed.
    """
    if name is None:
        name = next((each for each in _MODULES if find_spec(_MODULES[each])), "regorus")
    module = engine("rego", _MODULES[name], "rego")
    make = _with_regorus if name == "regorus" else _with_regopy

    def compiled(policy: str, data: str = "") -> RegoRules:
        if not _PACKAGE.search(policy):
            raise ValueError("line 1: there is no package")
        try:
            json.loads(data or "{}")
            return RegoRules(lambda: make(module, policy, data, path), version_of(policy, data))
        except json.JSONDecodeError as error:
            raise ValueError(f"the data, line {error.lineno}: is not JSON") from None
        except OSError:
            raise ValueError("there is no place for a temporary file") from None
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            raise ValueError(_what_is_wrong(str(error), policy)) from None

    return compiled


def _what_is_wrong(said: str, policy: str) -> str:
    """The engine's own words quote the policy, so its line is all that is told of them."""
    if "valid rule path" in said:
        return "has no rule at decision_path"
    line, offset = _LINE.search(said), _OFFSET.search(said)
    if offset:
        # It counts bytes.
        before = policy.encode()[: int(offset[1])]
        return f"line {before.count(10) + 1}: cannot be compiled"
    return f"line {line[1]}: cannot be compiled" if line else "cannot be compiled"


def _with_regorus(module: Any, policy: str, data: str, path: str) -> Interpreter:
    with _file(policy) as name:
        evaluate = module.OpaEval(name, data or None, f"data.{path}").evaluate_parsed

    def interpret(document: str) -> Any:
        result = evaluate(document)
        return UNDEFINED if result == "<undefined>" else result

    return interpret


def _with_regopy(module: Any, policy: str, data: str, path: str) -> Interpreter:
    rego = module.Interpreter()
    rego.log_level = module.LogLevel.NONE  # it would print the policy where that is wrong
    rego.add_module("policy", policy)
    if data:
        rego.add_data_json(data)
    # Without a variable a rule that is false would be undefined.
    bundle = rego.build(f"x=data.{path}", [])
    if not bundle.ok():
        raise ValueError("cannot be compiled")

    def interpret(document: str) -> Any:
        # As a term: what is set as a value is not escaped again where it is written out.
        rego.set_input_term(document)
        output = rego.query_bundle(bundle)
        if not output.ok():
            raise ValueError("the query failed")
        if str(output) == "undefined":
            return UNDEFINED
        # The binding lives in the output: without that its text would be anybody's.
        return json.loads(output.binding("x").json(), object_pairs_hook=_without_twins)

    return interpret


def _without_twins(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) != len(members):
        raise ValueError("a name stands twice")
    return made


@contextmanager
def _file(text: str) -> Iterator[str]:
    """The name of a file with ``text``: regorus reads nothing else. In memory where that is
    possible, since a container may have no place to write to.
    """
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        number = os.memfd_create("policy.rego")
        try:
            with open(number, "w", encoding="utf-8", closefd=False) as file:
                file.write(text)
            yield f"/proc/self/fd/{number}"
        finally:
            os.close(number)
        return
    number, name = tempfile.mkstemp(suffix=".rego")
    try:
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
        yield name
    finally:
        with suppress(OSError):
            os.unlink(name)


def _path(value: object) -> str:
    """``authz/allow``, ``authz.allow`` or ``data.authz.allow``, as the last without ``data``."""
    written = parsing.text(value).strip("/").replace("/", ".").removeprefix("data.")
    if not _PATH.fullmatch(written):
        raise parsing.Unreadable("must be the path of a rule, such as authz/allow")
    return written


_OPTIONS = {
    "decision_path": _path,
    "data": parsing.path,
    "engine": parsing.choice(*_MODULES),
}
