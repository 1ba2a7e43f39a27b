"""What is lost when commands crowd, are killed, meet an editor, a full disk or nonsense: uvtorch beside uv alone.

usage: python benchmarks/faults.py [--seconds N] [--only PART]

PART is one of: crowds, members, editor, kills, operations, signals, disk, hostile, fuzz. `--seconds` is for each of
kills and fuzz (5). Needs the test extra (the real uv, an index on 127.0.0.1) and a POSIX system; `operations` strace,
`disk` the right to mount a tmpfs in a namespace of its own. A row: what was tried, how often, what went wrong with uv
alone and with uvtorch, and examples of the latter. The last line is what the safety costs: it should be under 1 ms.
"""

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.index.server import IndexServer
from uvtorch.journal import Claim, Journal

HERE = Path(__file__).parents[1]
UV = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv") or "uv"
OURS = [sys.executable, "-m", "uvtorch"]
PROJECT = """[project]\r
name = "demo"\r
version = "0.1.0"\r
requires-python = ">=3.11"\r
dependencies = [] # mine\r
"""
GOOD = ("numpy", "jinja2", "torch", "timm")
MANY = (
    *(*GOOD, "torchvision", "torchaudio", "accelerate", "transformers", "filelock", "typing-extensions"),
    *("old-models", "sound-models", "any-models", "nvidia-cublas", "toml-cli"),
)
BAD = ("nowhere-a", "torch==9", "nowhere-b", "nowhere-c")
DAMAGE = (b"\0", b"\xff", b"[", b"]]", b'"', b"\r", b"\x1b[2J", b"\xef\xbb\xbf", b"[tool.uv]\n")
VERBS = (["add", "torch"], ["lock"], ["remove", "jinja2"], ["torch", "doctor"], ["sync", "--auto"])
LEFTOVER = re.compile(r"\.uvtorch.*|\.tmp.*")


class Row(NamedTuple):
    """A row of the table: how often something went wrong with uv alone, what went wrong with uvtorch."""

    what: str
    tried: int
    alone: int | None
    ours: list[str]

    def __str__(self) -> str:
        alone = "-" if self.alone is None else str(self.alone)
        return f"{self.what:<62} {self.tried:>6} {alone:>9} {len(self.ours):>8}  {'; '.join(self.ours[:2])}"


class Bench:
    """A folder, an index and an environment in which nothing comes from outside."""

    def __init__(self, folder: Path, server: IndexServer, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self.server = server
        config = folder / "uv.toml"
        config.write_text(f'[[index]]\nurl = "{server.default}"\ndefault = true\n')
        self.env = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(folder),
            "PYTHONPATH": str(HERE),
            "UV_CONFIG_FILE": str(config),
            "UV_CACHE_DIR": str(folder / "cache"),
            "UV_PYTHON": sys.executable,
            "UV_NO_PROGRESS": "1",
            "UVTORCH_UV": UV,
            "UVTORCH_INDEX_BASE": server.base,
            "UVTORCH_HARDWARE": str(HERE / "tests/machines/cpu-only.json"),
            "NO_PROXY": "127.0.0.1",
        }
        self.number = 0

    def _project(self, text: str = PROJECT) -> Path:
        self.number += 1
        path = self.folder / f"p{self.number}"
        path.mkdir()
        (path / "pyproject.toml").write_bytes(text.encode())
        self._run([UV, "lock", "-q"], path)
        return path

    def _start(self, command: Sequence[str], path: Path, **env: str) -> "subprocess.Popen[bytes]":
        out = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=path, env={**self.env, **env}, stdin=-3, stdout=out, stderr=out, process_group=0
        )

    def _run(self, command: Sequence[str], path: Path, **env: str) -> tuple[int, str]:
        process = self._start(command, path, **env)
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return -1, "it hangs"
        return process.returncode, (out + err).decode(errors="replace")

    def both(self, try_it: Callable[[Sequence[str]], list[str]]) -> tuple[int, list[str]]:
        """What goes wrong with uv alone (how often) and with uvtorch."""
        return len(try_it([UV])), try_it(OURS)

    # The parts

    def _crowds(self) -> Iterator[Row]:
        for what, good, bad in (
            ("4 good and 4 failing adds at once", GOOD, BAD),
            (f"{len(MANY)} adds at once", MANY, ()),
        ):
            tried = len(good) + len(bad)
            yield Row(what, tried, *self.both(lambda tool, good=good, bad=bad: self._crowd(tool, good, bad)))  # type: ignore[misc]

    def _crowd(self, tool: Sequence[str], good: Sequence[str], bad: Sequence[str]) -> list[str]:
        path = self._project()
        started = [(name, self._start([*tool, "add", "--no-sync", name], path)) for name in (*good, *bad)]
        ended = [(name, process.communicate(timeout=300), process.returncode) for name, process in started]
        wrong = [f"{name} refused: {err.decode()[-80:]}" for name, (_, err), code in ended if name in good and code]
        raw = (path / "pyproject.toml").read_text()
        wrong += [f"{name} lost" for name in good if f'"{name}' not in raw]
        wrong += [f"{name} kept though it failed" for name in bad if "nowhere" in name and name in raw]
        return wrong + self._state(path)

    def _members(self) -> Iterator[Row]:
        def try_it(tool: Sequence[str]) -> list[str]:
            root = self._project(PROJECT + '[tool.uv.workspace]\nmembers = ["m*"]\n')
            for n in range(8):
                (root / f"m{n}").mkdir()
                (root / f"m{n}/pyproject.toml").write_text(PROJECT.replace("demo", f"m{n}"), newline="")
            started = [self._start([*tool, "add", "--no-sync", GOOD[n % 4]], root / f"m{n}") for n in range(8)]
            for process in started:
                process.communicate(timeout=300)
            wrong = self._state(root)
            for n, process in enumerate(started):
                text = (root / f"m{n}/pyproject.toml").read_text()
                wrong += [f"m{n} lost {GOOD[n % 4]}"] if process.returncode == 0 and GOOD[n % 4] not in text else []
                wrong += [f"m{n} refused"] if process.returncode else []
                if GOOD[n % 4] in ("numpy", "jinja2") and "pytorch" in text:
                    wrong.append(f"m{n} has another's pins")
            return wrong

        yield Row("8 adds in 8 members of a workspace", 8, *self.both(try_it))

    def _editor(self) -> Iterator[Row]:
        """Somebody saves the file while uv resolves, and uv fails."""
        ways: dict[str, Callable[[Path], object]] = {
            "appends": lambda file: file.open("a").write("# theirs\n"),
            "writes anew": lambda file: file.write_text(PROJECT + "# theirs\n", newline=""),
            "renames over": _replaced,
            "changes a value": lambda file: file.write_text(PROJECT.replace("0.1.0", "# theirs"), newline=""),
            "deletes": lambda file: file.unlink(),
        }  # fmt: skip

        def try_it(tool: Sequence[str]) -> list[str]:
            wrong = []
            for name, way in ways.items():
                path = self._project()
                file = path / "pyproject.toml"
                slow = self._slow_uv("sleep 0.5")
                if tool == OURS:
                    process = self._start([*tool, "add", "nowhere"], path, UVTORCH_UV=slow)
                else:
                    process = self._start([slow, "add", "nowhere"], path)
                _until(lambda path=path: (path / "begun").exists())  # type: ignore[misc]
                way(file)
                process.communicate(timeout=60)
                kept = not file.exists() if name == "deletes" else "theirs" in file.read_text()
                wrong += [] if kept else [f"{name}: lost"]
            return wrong

        yield Row("an editor writes pyproject.toml while uv runs, and uv fails", len(ways), *self.both(try_it))

    def _slow_uv(self, wait: str) -> str:
        """A uv that takes its time between its requirement and its failure, and puts back what it had read."""
        path = self.folder / "slow-uv"
        path.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {UV} "$@"\ncp pyproject.toml /tmp/read-$$\n'
            f"{UV} add -q --frozen nowhere; touch begun; {wait}\n"
            "[ -e pyproject.toml ] && cat /tmp/read-$$ >pyproject.toml; rm /tmp/read-$$ begun; exit 1\n"
        )
        path.chmod(0o755)
        return str(path)

    def _kills(self) -> Iterator[Row]:
        """kill -9 at a random moment, of the command alone or with its uv; then the next command."""
        verbs = (("add", "numpy"), ("add", "torch"), ("lock",), ("remove", "jinja2"), ("torch", "use", "cpu"))
        for whom in ("the command alone", "the whole group"):
            counts, wrong, tried = 0, [], 0
            for tool, verb in [*(([UV], verb) for verb in verbs[:4]), *((OURS, verb) for verb in verbs)]:
                text = PROJECT.replace("[]", '["jinja2", "torch"]' if verb[0] == "torch" else '["jinja2"]')
                path = self._project(text)
                before = self._files(path)
                start = time.monotonic()
                self._run([*tool, *verb], path)
                took, end = time.monotonic() - start, time.monotonic() + self.seconds / 9
                while time.monotonic() < end:
                    self._reset(path, before)
                    process = self._start([*tool, *verb], path)
                    time.sleep(random.uniform(0, took))
                    os.killpg(process.pid, signal.SIGKILL) if "group" in whom else process.kill()
                    process.communicate()
                    found = [f"{' '.join(verb)}: {text}" for text in self._after_a_kill(tool, path, before)]
                    tried += tool == OURS
                    counts, wrong = (counts, wrong + found) if tool == OURS else (counts + len(found), wrong)
            yield Row(f"kill -9 of {whom} at a random moment", tried, counts, wrong)

    def _operations(self) -> Iterator[Row]:
        """kill -9 of the group at each thing that it does to the project's files."""
        if shutil.which("strace") is None:
            return
        counts, wrong, tried = 0, [], 0
        for tool in ([UV], OURS):
            path = self._project(PROJECT.replace("[]", '["jinja2"]'))
            before = self._files(path)
            for at in range(1, 200):
                self._reset(path, before)
                paths = [word for name in before for word in ("-P", name, "-P", str(path / name))]
                inject = ["-e", "trace=openat,write,rename", "-e", f"inject=openat,write,rename:signal=KILL:when={at}"]
                command = ["strace", "-f", "-qq", "-o", os.devnull, *paths, *inject, *tool, "add", "--no-sync", "torch"]
                process = self._start(command, path)
                process.communicate(timeout=60)
                if process.returncode == 0:
                    break
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                found = [f"at {at}: {text}" for text in self._after_a_kill(tool, path, before)]
                tried += tool == OURS
                counts, wrong = (counts, wrong + found) if tool == OURS else (counts + len(found), wrong)
        yield Row("kill -9 of the group at each operation on the files", tried, counts, wrong)

    def _after_a_kill(self, tool: Sequence[str], path: Path, before: dict[str, bytes]) -> list[str]:
        if tool == OURS:  # the next command, whatever it is
            text = self._run([*tool, "torch", "backends"], path)[1]
            self._run([*tool, "lock"], path)
            told = [row for row in text.splitlines() if row.startswith("uvtorch: put back")]
            if "Traceback" in text or len(told) > 1:
                return [text[-90:]]
        after = self._files(path)
        whole = after == before or self._run([UV, "lock", "--check", "-q"], path)[0] == 0
        crlf = b"\r\n" in after.get("pyproject.toml", b"")
        left = [name.name for name in path.iterdir() if LEFTOVER.fullmatch(name.name)]
        return [*([] if whole else ["torn or half done"]), *([] if crlf else ["not as it was"]), *left]

    def _signals(self) -> Iterator[Row]:
        def try_it(tool: Sequence[str]) -> list[str]:
            wrong = []
            for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
                path = self._project()
                before = self._files(path)
                hang = {"UV_INDEX": f"http://127.0.0.1:{self.hanging}/simple"}
                process = self._start([*tool, "add", "nowhere"], path, **hang)
                _until(lambda path=path: b"nowhere" in (path / "pyproject.toml").read_bytes())  # type: ignore[misc]
                process.send_signal(signal.Signals[name])
                process.communicate(timeout=30)
                wrong += [] if self._files(path) == before else [f"{name}: not as before"]
            return wrong

        with socket.create_server(("127.0.0.1", 0)) as server:
            self.hanging = server.getsockname()[1]
            yield Row("a signal while uv waits for an index", 4, *self.both(try_it))

    def _disk(self) -> Iterator[Row]:
        """The disk is full when uv has failed: the old text must come back."""
        uv = self.folder / "filling-uv"
        uv.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {UV} "$@"\n: >pyproject.toml; echo half >uv.lock\n'
            "cat /dev/zero >fill 2>/dev/null; exit 1\n"
        )
        uv.chmod(0o755)
        before = self._files(self._project())
        mount = self.folder / "small"
        mount.mkdir()
        toml, lock = (self.folder / f"p{self.number}" / name for name in ("pyproject.toml", "uv.lock"))
        script = (
            f"mount -t tmpfs -o size=200k none {mount} && cd {mount} && cp {toml} {lock} . || exit 77; "
            f"{sys.executable} -m uvtorch add nowhere --no-sync; cmp {toml} pyproject.toml && cmp {lock} uv.lock"
        )
        assert before
        code, text = self._run(["unshare", "-rm", "sh", "-c", script], self.folder, UVTORCH_UV=str(uv))
        if code != 77 and "unshare:" not in text:
            yield Row("a full disk when uv fails", 1, None, [text[-100:]] if code else [])

    def _hostile(self) -> Iterator[Row]:
        """Files that are there before: a forged journal, a FIFO, a directory, links."""
        ways: dict[str, Callable[[Path], object]] = {
            "an empty journal": lambda path: (path / ".uvtorch-journal").touch(),
            "a FIFO as journal": lambda path: os.mkfifo(path / ".uvtorch-journal"),
            "a directory as journal": lambda path: (path / ".uvtorch-journal").mkdir(),
            "a link as journal": lambda path: (path / ".uvtorch-journal").symlink_to("/dev/zero"),
            "a FIFO as uv.lock": lambda path: ((path / "uv.lock").unlink(), os.mkfifo(path / "uv.lock")),
            "a directory as uv.lock": lambda path: ((path / "uv.lock").unlink(), (path / "uv.lock").mkdir()),
            "pyproject.toml not UTF-8": lambda path: (path / "pyproject.toml").write_bytes(b"\xff\xfe"),
            "3,000 parts of a key": lambda path: (path / "pyproject.toml").write_text("a." * 3000 + "b=1"),
        }
        wrong = []
        for name, way in ways.items():
            path = self._project()
            way(path)
            wrong += [f"{name}: {text}" for text in self._nonsense(["add", "numpy", "--no-sync"], path)]
        yield Row("hostile files", len(ways), None, wrong)

    def _fuzz(self) -> Iterator[Row]:
        """Random damage of files, words and variables: no traceback, no hang."""
        path, wrong, tried = self._project(), [], 0
        before = self._files(path)
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            seed = random.randrange(1 << 32)
            dice = random.Random(seed)
            self._reset(path, before)
            file = path / dice.choice([*before])
            raw = bytearray(file.read_bytes())
            for _ in range(dice.randrange(1, 8)):
                at = dice.randrange(len(raw) + 1)
                raw[at : at + dice.choice((0, 1, 9))] = dice.choice(
                    (
                        b"\0",
                        b"\xff",
                        b"[",
                        b"]]",
                        b'"',
                        b"\r",
                        b"\x1b[2J",
                        b"\xef\xbb\xbf",
                        dice.randbytes(3),
                        b"[tool.uv]\n",
                    )
                )
            file.write_bytes(raw)
            words = dice.choice(
                (["add", "torch"], ["lock"], ["remove", "jinja2"], ["torch", "doctor"], ["sync", "--auto"])
            )
            extra = dice.choice(([], [os.fsdecode(dice.randbytes(4).replace(b"\0", b"")) or "x"]))
            wrong += [
                f"seed {seed}: {text}" for text in self._nonsense([*words, *extra, "--dry-run"][: len(words) + 2], path)
            ]
            tried += 1
        yield Row(f"damaged files and words, {self.seconds:.0f} s", tried, None, wrong)

    def _nonsense(self, words: Sequence[str], path: Path) -> list[str]:
        code, text = self._run([*OURS, *words], path)
        return [text[-90:]] if code < 0 or "Traceback" in text or "\x1b" in text else []

    # What is looked at

    def _files(self, path: Path) -> dict[str, bytes]:
        return {name: (path / name).read_bytes() for name in ("pyproject.toml", "uv.lock") if (path / name).is_file()}

    def _reset(self, path: Path, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            (path / name).write_bytes(content)

    def _state(self, path: Path) -> list[str]:
        left = [f"{name.name} left" for name in path.iterdir() if LEFTOVER.fullmatch(name.name)]
        return left + (["stale lock"] if self._run([UV, "lock", "--check"], path)[0] else [])


def _replaced(file: Path) -> None:
    new = file.with_name("new")
    new.write_text("# theirs\n")
    new.replace(file)


def _until(true: Callable[[], object]) -> None:
    for _ in range(1500):
        if true():
            return
        time.sleep(0.01)
    raise TimeoutError


PARTS = ("crowds", "members", "editor", "kills", "operations", "signals", "disk", "hostile", "fuzz")


def _held(path: Path) -> float:
    """Milliseconds of CPU time, the best of some rounds: a project is held, two files are copied, it is let go."""
    path.mkdir()
    files = [path / "pyproject.toml", path / "uv.lock"]
    for file in files:
        file.write_bytes(PROJECT.encode())

    def once() -> float:
        start = time.process_time()
        claim = Claim(str(path), os.environ)
        claim.take("uvtorch add", print)
        journal = Journal(claim.place)
        for file in files:
            journal.keep(str(file))
        journal.begin(("torch",))
        journal.end()
        claim.release()
        return time.process_time() - start

    return 1000 * min(once() for _ in range(20))


def main() -> int:
    """Print the table; 1 where something went wrong with uvtorch."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--only", choices=PARTS)
    chosen = arguments.parse_args()
    print(f"{'tried':<62} {'times':>6} {'uv alone':>9} {'uvtorch':>8}")
    failed = False
    with tempfile.TemporaryDirectory() as folder, IndexServer() as server:
        bench = Bench(Path(folder), server, chosen.seconds)
        for part in [chosen.only] if chosen.only else PARTS:
            for row in getattr(bench, f"_{part}")():
                print(row, flush=True)
                failed |= bool(row.ours)
        milliseconds = _held(Path(folder) / "held")
        print(f"\nholding a project and keeping copies of two files takes {milliseconds:.2f} ms of CPU time")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
