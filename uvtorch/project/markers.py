"""Environment markers evaluated for a described machine, without `packaging` for the forms that sources use.

Pure. Comparisons of strings (`sys_platform == 'linux'`) and of Python versions with `and`, `or` and parentheses are
evaluated here; anything else (`~=`, `platform_release`, ...) is handed to `packaging`, which costs 40 ms to import.
"""

import re
import sys
from functools import cache
from typing import Final, NamedTuple

from uvtorch.errors import ProjectError
from uvtorch.machine import Platform

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<string>'[^']*'|"[^"]*")|(?P<op><=|>=|==|!=|<|>)|(?P<paren>[()])|(?P<word>[A-Za-z_][A-Za-z0-9_.]*))"""
)
_VERSION: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_PLATFORM_VALUES: Final[dict[str, dict[str, str]]] = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
}
_MACHINE_VALUES: Final = {
    "linux": {"x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"},
    "windows": {"x86_64": "AMD64", "arm64": "ARM64", "aarch64": "ARM64"},
    "macos": {"x86_64": "x86_64", "arm64": "arm64", "aarch64": "arm64"},
}
_KNOWN_VALUES: Final = {
    "sys_platform": frozenset(("linux", "win32", "darwin", "cygwin", "emscripten", "wasi", "android", "ios")),
    "platform_system": frozenset(("Linux", "Windows", "Darwin", "Java", "Emscripten", "Android", "iOS", "FreeBSD")),
    "os_name": frozenset(("posix", "nt", "java")),
}
"""The values that a variable can have; one that is missing here only by its case is a mistake."""
_MISTAKEN: Final = {
    "sys_platform": {"windows": "win32", "macos": "darwin", "macosx": "darwin", "win64": "win32", "osx": "darwin"},
    "platform_system": {"win32": "Windows", "macos": "Darwin"},
    "os_name": {"linux": "posix", "windows": "nt", "darwin": "posix"},
}
"""Values that name a platform the way another variable does, and what was meant."""
_ALIASES: Final = {
    "os.name": "os_name",
    "sys.platform": "sys_platform",
    "platform.machine": "platform_machine",
    "platform.python_implementation": "platform_python_implementation",
    "python_implementation": "platform_python_implementation",
}


class Environment(NamedTuple):
    """What markers are evaluated against: a platform and a Python."""

    platform: Platform
    python: str | None = None
    """`3.12` or `3.12.4`; None: the interpreter that runs uvtorch."""
    extras: frozenset[str] = frozenset()
    """The values of `extra` that are true, as uv.lock writes them: `extra-4-demo-cpu`."""

    def values(self) -> dict[str, str]:
        """The marker variables of this environment, as PEP 508 names them."""
        system, machine = self.platform.system, self.platform.machine
        python = (self.python or "").rstrip("t") or "{}.{}.{}".format(*sys.version_info[:3])
        parts = python.split(".")
        return {
            **_PLATFORM_VALUES.get(system, {"sys_platform": system, "platform_system": system, "os_name": "posix"}),
            "platform_machine": _MACHINE_VALUES.get(system, {}).get(machine, machine),
            "python_version": ".".join(parts[:2]),
            "python_full_version": python if len(parts) > 2 else f"{python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "extra": "",
        }


def holds(marker: str | None, environment: Environment) -> bool:
    """Whether a marker is true there; None and the empty marker always are.

    Raises ProjectError for a marker that is not well formed.
    """
    if marker is None or not marker.strip():
        return True
    values = environment.values()
    try:
        return _Evaluation(_tokens(marker), values, environment.extras).result()
    except _Unusual:
        return _by_packaging(marker, values)


def dead(marker: str) -> tuple[str, ...]:
    """The comparisons of a source's marker that no platform can change: `sys_platform == 'Linux' is never true`.

    An `extra` is one of them: uv does not bind a source to an extra by its marker.
    """
    try:
        tokens = _tokens(marker)
    except _Unusual:
        return ()
    found = []
    for left, op, right in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if op.text not in ("==", "!="):
            continue
        variable, value = (left, right) if left.kind == "word" else (right, left)
        if variable.kind != "word" or value.kind != "string":
            continue
        name = _ALIASES.get(variable.text, variable.text)
        known = _KNOWN_VALUES.get(name, frozenset())
        if value.text in known or not (known or name == "extra"):
            continue
        if (
            name == "extra"
            or value.text.lower() in {item.lower() for item in known}
            or value.text.lower() in _MISTAKEN[name]
        ):
            truth = "never" if op.text == "==" else "always"
            found.append(f"{variable.text} {op.text} '{value.text}' is {truth} true")
    return tuple(found)


def mended(marker: str) -> str | None:
    """The marker with what `dead` finds replaced by what was meant; None where that is not plain."""
    result = marker
    for fault in dead(marker):
        variable, op, value = fault.split(" ", 2)
        name = _ALIASES.get(variable, variable)
        value = value[1 : value.rindex("'")]
        known = {item.lower(): item for item in _KNOWN_VALUES.get(name, ())}
        meant = known.get(value.lower()) or _MISTAKEN.get(name, {}).get(value.lower())
        if meant is None:
            return None
        for quote in "'\"":
            pattern = rf"({re.escape(variable)}\s*{op}\s*){quote}{re.escape(value)}{quote}"
            result = re.sub(pattern, rf"\g<1>{quote}{meant}{quote}", result)
            pattern = rf"{quote}{re.escape(value)}{quote}(\s*{op}\s*{re.escape(variable)})\b"
            result = re.sub(pattern, rf"{quote}{meant}{quote}\g<1>", result)
    return result if result != marker and not dead(result) else None


class _Unusual(Exception):
    """The marker uses a form that is left to `packaging`."""


class _Token(NamedTuple):
    kind: str
    text: str


@cache
def _tokens(marker: str) -> tuple[_Token, ...]:
    tokens = []
    position, end = 0, len(marker.rstrip())
    while position < end:
        match = _TOKEN.match(marker, position)
        if match is None:
            raise _Unusual
        position = match.end()
        kind = match.lastgroup or ""
        text = match[kind]
        tokens.append(_Token(kind, text[1:-1] if kind == "string" else text))
    return tuple(tokens)


class _Evaluation:
    """One recursive descent over a marker's tokens; all of them are read, so that an error never depends on luck."""

    def __init__(
        self, tokens: tuple[_Token, ...], values: dict[str, str], extras: frozenset[str] = frozenset()
    ) -> None:
        self.tokens = tokens
        self.values = values
        self.extras = extras
        self.at = 0

    def result(self) -> bool:
        value = self.disjunction()
        if self.at != len(self.tokens):
            raise _Unusual
        return value

    def disjunction(self) -> bool:
        value = self.conjunction()
        while self.take("word", "or"):
            other = self.conjunction()
            value = value or other
        return value

    def conjunction(self) -> bool:
        value = self.atom()
        while self.take("word", "and"):
            other = self.atom()
            value = value and other
        return value

    def atom(self) -> bool:
        if self.take("paren", "("):
            value = self.disjunction()
            if not self.take("paren", ")"):
                raise _Unusual
            return value
        left, op, right = self.next(), self.operator(), self.next()
        if "string" not in (left.kind, right.kind) or left.kind == right.kind:
            raise _Unusual
        variable = left if left.kind == "word" else right
        if _ALIASES.get(variable.text, variable.text) in ("python_version", "python_full_version"):
            return self.compare_versions(left, op, right)
        one, other = self.value(left), self.value(right)
        if variable.text == "extra" and self.extras and op in ("==", "!="):
            return ((right if variable is left else left).text in self.extras) == (op == "==")
        if op == "==":
            return one == other
        if op == "!=":
            return one != other
        if op == "in":
            return one in other
        if op == "not in":
            return one not in other
        raise _Unusual

    def compare_versions(self, left: _Token, op: str, right: _Token) -> bool:
        texts = self.value(left), self.value(right)
        if op in ("==", "!=") and texts[1].endswith(".*") and _VERSION.fullmatch(texts[1][:-2]):
            return (f"{texts[0]}.".startswith(texts[1][:-1])) == (op == "==")
        if op in ("in", "not in") or not all(_VERSION.fullmatch(text) for text in texts):
            raise _Unusual
        one, other = ([int(part) for part in text.split(".")] for text in texts)
        width = max(len(one), len(other))
        one += [0] * (width - len(one))
        other += [0] * (width - len(other))
        return {
            "==": one == other,
            "!=": one != other,
            "<": one < other,
            "<=": one <= other,
            ">": one > other,
            ">=": one >= other,
        }[op]

    def operator(self) -> str:
        token = self.next()
        if token.kind == "op" or token.text == "in":
            return token.text
        if token.text == "not" and self.take("word", "in"):
            return "not in"
        raise _Unusual

    def value(self, token: _Token) -> str:
        if token.kind == "string":
            return token.text
        try:
            return self.values[_ALIASES.get(token.text, token.text)]
        except KeyError:
            raise _Unusual from None

    def next(self) -> _Token:
        if self.at == len(self.tokens) or self.tokens[self.at].kind == "paren":
            raise _Unusual
        self.at += 1
        return self.tokens[self.at - 1]

    def take(self, kind: str, text: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at] == (kind, text):
            self.at += 1
            return True
        return False


def _by_packaging(marker: str, values: dict[str, str]) -> bool:
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

    # What a description does not say must not be read off the machine that happens to run uvtorch.
    unknown = {"platform_release": "", "platform_version": ""}
    unknown["implementation_version"] = values["python_full_version"]
    try:
        return Marker(marker).evaluate({**unknown, **values})
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName) as error:
        reason = str(error).splitlines()[0]
        raise ProjectError(f"the marker {marker!r} cannot be read: {reason}") from None
