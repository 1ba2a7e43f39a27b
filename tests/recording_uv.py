"""A stand-in for uv that records how it was started, to the byte, and then does what a test tells it to."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

_RECORD = """\
#!/bin/sh
n=0
while ! mkdir '{calls}'/$n 2>/dev/null; do n=$((n+1)); done
call='{calls}'/$n
terminals=; for fd in 0 1 2; do [ -t $fd ] && terminals="$terminals $fd"; done
echo $terminals >"$call/terminals"
pwd -P >"$call/cwd"
for fact in cmdline environ; do cat /proc/$$/$fact >"$call/$fact"; done
# Not by cat: while it starts, some shells block all signals.
while read -r line; do echo "$line"; done </proc/$$/status >"$call/status"
: >"$call/complete"
case "$1" in --version) {{ echo "uv {version} (recorded)"; }} 2>/dev/null; [ "$2" ] || exit {version_code};; esac
{body}
"""


class Call(NamedTuple):
    """One start of the stand-in. What the kernel knows of a process, before any program could change it."""

    argv: list[bytes]
    """Its arguments, without the program's name."""
    environment: dict[bytes, bytes]
    cwd: Path
    terminals: frozenset[int]
    """Those of stdin, stdout and stderr that are terminals."""
    pid: int
    ignored: int
    """The signals that are ignored, as a bit mask: bit n-1 for signal n."""
    blocked: int

    def ignores(self, number: int) -> bool:
        return bool(self.ignored >> (number - 1) & 1)


class RecordingUv:
    """A program at `path` (of Linux: it asks /proc) that records its starts and then runs `body`, in sh."""

    def __init__(self, path: Path, body: str = "exit 0", version: str = "0.13.8", version_code: int = 0) -> None:
        self.path = path
        self._calls = path.parent / f"{path.name}-calls"
        self._calls.mkdir(parents=True)
        text = _RECORD.format(calls=self._calls, body=body, version=version, version_code=version_code)
        path.write_text(text)
        path.chmod(0o755)

    @property
    def calls(self) -> list[Call]:
        """Its starts, in order."""
        return [_read(call) for call in sorted(self._calls.iterdir(), key=lambda call: int(call.name))]

    @property
    def call(self) -> Call:
        """Its only start."""
        (call,) = self.calls
        return call

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of each start, `--version` (by which uv's age is told) left out."""
        return [[os.fsdecode(word) for word in call.argv] for call in self.calls if call.argv != [b"--version"]]


def _read(call: Path) -> Call:
    _, _, *argv = (call / "cmdline").read_bytes().split(b"\0")[:-1]
    variables = [row.partition(b"=") for row in (call / "environ").read_bytes().split(b"\0")[:-1]]
    status = dict(row.split(":", 1) for row in (call / "status").read_text().splitlines())
    return Call(
        argv,
        {name: value for name, _, value in variables},
        Path(os.fsdecode((call / "cwd").read_bytes().removesuffix(b"\n"))),
        frozenset(map(int, (call / "terminals").read_text().split())),
        int(status["Pid"]),
        int(status["SigIgn"], 16),
        int(status["SigBlk"], 16),
    )


_PYTHON = """\
#!{python} -IS
import os, signal, sys, time
if sys.argv[1:] == ["--version"]:
    print("uv 0.13.8")
    sys.exit()

def say(word):  # whole lines at once, from wherever a signal finds us
    with open({said!r}, "ab", buffering=0) as file:
        file.write(word.encode() + b"\\n")

def released():
    return os.path.exists({release!r})

{body}
"""


class ActingUv:
    """A program at `path` that runs `body`, in Python: it can `say(word)`, and wait until it is `released()`."""

    def __init__(self, path: Path, body: str) -> None:
        self.path = path
        self._said = path.parent / f"{path.name}-said"
        self._release = path.parent / f"{path.name}-released"
        text = _PYTHON.format(python=sys.executable, said=str(self._said), release=str(self._release), body=body)
        path.write_text(text)
        path.chmod(0o755)

    @property
    def said(self) -> list[str]:
        return self._said.read_text().splitlines() if self._said.exists() else []

    def release(self) -> None:
        self._release.touch()
