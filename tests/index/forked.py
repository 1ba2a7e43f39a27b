"""`python -m uvtorch` as a process of its own, without importing everything anew: a server that has imported it forks.

The process has its own directory, environment and files, and may become uv; only the imports are there already, which
would be most of a test's time. Where there is no fork, or the imports are the question, a plain process does the same.
"""

import contextlib
import os
import pickle
import select
import socket
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL

ROOT = Path(__file__).parents[2]
Starting = tuple[tuple[str, str], ...]
SERVER = """
import contextlib, gc, importlib, os, pickle, pkgutil, runpy, select, signal, socket, struct, sys
import uvtorch
for module in pkgutil.walk_packages(uvtorch.__path__, "uvtorch."):
    if not module.name.endswith(("__main__", "ask_nvml")):
        importlib.import_module(module.name)
uvtorch.catalog.load(None)
gc.collect()
gc.freeze()  # so that the processes share more of their memory
channel = socket.socket(fileno=int(sys.argv[1]))
ended, wake = os.pipe()
os.set_blocking(wake, False)
running = {}  # process -> where to write how it ended: several run at a time
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.set_wakeup_fd(wake)
while True:
    ready = select.select([channel, ended], [], [])[0]
    if ended in ready:
        os.read(ended, 512)
        for child in [*running]:
            if (found := os.waitpid(child, os.WNOHANG))[0]:
                status = running.pop(child)
                with contextlib.suppress(BrokenPipeError):  # nobody waits any longer
                    os.write(status, struct.pack("!i", os.waitstatus_to_exitcode(found[1])))
                os.close(status)
    if channel not in ready:
        continue
    request, descriptors, _, _ = socket.recv_fds(channel, 1, 5)
    if not request:
        break
    with open(descriptors.pop(0), "rb") as file:
        arguments, directory, environment = pickle.load(file)
    *files, status = descriptors
    if child := os.fork():
        running[child] = status
        os.write(status, struct.pack("!i", child))
        for descriptor in files:
            os.close(descriptor)
        continue
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor in (channel.detach(), ended, wake, status, *running.values()):
        os.close(descriptor)
    for number, descriptor in enumerate(files):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = ["uvtorch", *arguments]
    runpy.run_module("uvtorch", run_name="__main__", alter_sys=True)
"""

CLIENT = """\
#!{python} -IS
import os, pickle, socket, struct, sys
request, write = os.pipe()
with open(write, "wb") as file:
    pickle.dump((sys.argv[1:], os.getcwd(), {{**os.environ}}), file)
status, write = os.pipe()
socket.send_fds(socket.socket(fileno={channel}), [b"1"], [request, 0, 1, 2, write])
os.close(write)
with open(status, "rb") as ended:
    code = struct.unpack("!ii", ended.read())[1]
os._exit(code if code >= 0 else 128 - code)
"""


class Forked:
    """Runs uvtorch. One server for each set of variables that Python reads as it starts."""

    def __init__(self) -> None:
        self._channels: dict[Starting, socket.socket] = {}
        self._often: Counter[Starting] = Counter()

    def run(
        self,
        arguments: Sequence[str | bytes],
        directory: Path,
        environment: Mapping[str, str],
        stdin: bytes = b"",
        seconds: float = 120,
    ) -> "subprocess.CompletedProcess[bytes]":
        """As `subprocess.run` of `python -m uvtorch` with both outputs kept; raises `TimeoutExpired`."""
        starting = self._starting(environment)
        self._often[starting] += 1  # a server takes as long to start as three processes
        if not hasattr(os, "fork") or "PYTHONPROFILEIMPORTTIME" in environment or self._often[starting] < 3:
            command = [sys.executable, "-m", "uvtorch", *arguments]
            return subprocess.run(
                command, cwd=directory, env=environment, input=stdin, capture_output=True, timeout=seconds, check=False
            )
        with contextlib.ExitStack() as stack:
            request, given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(4))
            pickle.dump(([os.fsdecode(word) for word in arguments], str(directory), dict(environment)), request)
            given.write(stdin)
            for file in (request, given):
                file.seek(0)
            status, write = os.pipe()
            files = [file.fileno() for file in (request, given, out, err)]
            socket.send_fds(self._channel(environment), [b"1"], [*files, write])
            os.close(write)
            with open(status, "rb", buffering=0) as ended:
                (child,) = struct.unpack("!i", ended.read(4))
                if not select.select([status], [], [], seconds)[0]:
                    os.kill(child, SIGKILL)
                    raise subprocess.TimeoutExpired(["uvtorch", *map(str, arguments)], seconds)
                (code,) = struct.unpack("!i", ended.read(4))
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())

    def program(self, path: Path, environment: Mapping[str, str]) -> int:
        """Write a program that does the same, for a shell of this environment, which has to inherit the descriptor."""
        channel = self._channel(environment).fileno()
        path.write_text(CLIENT.format(python=sys.executable, channel=channel))
        path.chmod(0o755)
        return channel

    @staticmethod
    def _starting(environment: Mapping[str, str]) -> Starting:
        return tuple(row for row in sorted(environment.items()) if row[0].startswith(("PYTHON", "LC_", "LANG")))

    def _channel(self, environment: Mapping[str, str]) -> socket.socket:
        starting = self._starting(environment)
        if starting not in self._channels:
            self._channels[starting], theirs = socket.socketpair()
            theirs.set_inheritable(True)
            command = [sys.executable, "-c", SERVER, str(theirs.fileno())]
            os.posix_spawn(sys.executable, command, {**environment, "PYTHONPATH": str(ROOT)})
            theirs.close()
        return self._channels[starting]


FORKED = Forked()
