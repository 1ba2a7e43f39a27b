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
from collections.abc import Mapping
from pathlib import Path
from signal import SIGKILL

SERVER = """
import importlib, os, pickle, pkgutil, runpy, socket, struct, sys
import uvtorch
for module in pkgutil.walk_packages(uvtorch.__path__, "uvtorch."):
    if not module.name.endswith(("__main__", "ask_nvml")):
        importlib.import_module(module.name)
channel = socket.socket(fileno=int(sys.argv[1]))
watchers = []
while True:
    request, descriptors, _, _ = socket.recv_fds(channel, 1, 5)
    if not request:
        break
    with open(descriptors.pop(0), "rb") as file:
        arguments, directory, environment = pickle.load(file)
    watcher = os.fork()  # one for each run, so that several can run at a time
    if not watcher:
        channel.close()
        *files, status = descriptors
        if child := os.fork():
            os.write(status, struct.pack("!i", child))
            os.write(status, struct.pack("!i", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
            os._exit(0)
        os.close(status)
        for number, descriptor in enumerate(files):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(directory)
        sys.argv = ["uvtorch", *arguments]
        runpy.run_module("uvtorch", run_name="__main__", alter_sys=True)
        sys.exit()
    for descriptor in descriptors:
        os.close(descriptor)
    watchers.append(watcher)
    watchers = [one for one in watchers if not os.waitpid(one, os.WNOHANG)[0]]
"""


class Forked:
    """Runs uvtorch; one server for a test process, started by the first run and ended with it."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None

    def run(
        self, arguments: list[str], directory: Path, environment: Mapping[str, str], stdin: str, seconds: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """As `subprocess.run` of `python -m uvtorch` with both outputs kept; raises `TimeoutExpired`."""
        if not hasattr(os, "fork") or "PYTHONPROFILEIMPORTTIME" in environment:
            command = [sys.executable, "-m", "uvtorch", *arguments]
            return subprocess.run(
                command,
                cwd=directory,
                env=environment,
                input=stdin,
                capture_output=True,
                encoding="utf-8",
                timeout=seconds,
                check=False,
            )
        if self._channel is None:
            self._channel = self._start(environment)
        with contextlib.ExitStack() as stack:
            request, given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(4))
            pickle.dump((arguments, str(directory), dict(environment)), request)
            given.write(stdin.encode())
            for file in (request, given):
                file.seek(0)
            status, write = os.pipe()
            socket.send_fds(self._channel, [b"1"], [*(file.fileno() for file in (request, given, out, err)), write])
            os.close(write)
            (child,) = struct.unpack("!i", os.read(status, 4))
            if not select.select([status], [], [], seconds)[0]:
                os.kill(child, SIGKILL)
                raise subprocess.TimeoutExpired(["uvtorch", *arguments], seconds)
            (code,) = struct.unpack("!i", os.read(status, 4))
            os.close(status)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read().decode(), err.read().decode())

    @staticmethod
    def _start(environment: Mapping[str, str]) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.set_inheritable(True)
        os.posix_spawn(sys.executable, [sys.executable, "-W", "error", "-c", SERVER, str(theirs.fileno())], environment)
        theirs.close()
        return ours
