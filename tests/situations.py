"""Projects on the test indexes whose remedies are typed: what a warning or a hint names must work where it is named."""

import os
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.index.project import Done, Home, Project

LINUX = "sys_platform == 'linux' and platform_machine == 'x86_64'"
_COMMAND = re.compile("`((?:uvtorch |uv |--)[^`]*)`")
"""A command, or options for the one that was typed."""


def body(*requirements: str, tool: str = "", name: str = "demo") -> str:
    """A pyproject.toml that is locked for Linux alone; `tool` goes on after `[tool.uv]`."""
    listed = ", ".join(f'"{row}"' for row in requirements)
    head = f'[project]\nname = "{name}"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = [{listed}]\n'
    return f'{head}\n[tool.uv]\nenvironments = ["{LINUX}"]\n{tool}'


def source(index: str, *packages: str, name: str = "own") -> str:
    """The tables that take packages from an index; `index` is a path on the server: `whl/cu128`."""
    rows = "".join(f'{package} = {{ index = "{name}" }}\n' for package in packages)
    return f'\n[tool.uv.sources]\n{rows}\n[[tool.uv.index]]\nname = "{name}"\nurl = "SERVER/{index}"\nexplicit = true\n'


def choices(**urls: str) -> str:
    """The tables that offer torch as extras of these names, each from an index of its own that is called the same."""
    conflict = ", ".join(f'{{ extra = "{name}" }}' for name in urls)
    sources = ", ".join(f'{{ index = "{name}", extra = "{name}" }}' for name in urls)
    extras = "".join(f'{name} = ["torch"]\n' for name in urls)
    indexes = "".join(
        f'\n[[tool.uv.index]]\nname = "{name}"\nurl = "{url}"\nexplicit = true\n' for name, url in urls.items()
    )
    tables = f"[tool.uv]\nconflicts = [[{conflict}]]\n\n[tool.uv.sources]\ntorch = [{sources}]\n{indexes}"
    return f"\n[project.optional-dependencies]\n{extras}\n{tables}"


class Told(NamedTuple):
    """A remedy, the command that named it, and the project as it was then."""

    remedy: str
    message: str
    command: tuple[str, ...]
    machine: str
    copy: Path
    cwd: str


class Situation(Project):
    """A project, some of whose files lie elsewhere than in pyproject.toml, that remembers every remedy it was told."""

    def __init__(self, home: Home, path: Path, root: Path | None = None) -> None:
        super().__init__(home, path)
        self.root = root or path
        self.told: list[Told] = []

    def put(self, files: Mapping[str, str]) -> "Situation":
        """Write files; `SERVER` and `BASE` stand for the server's URL and the indexes'."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            filled = text.replace("SERVER", self.home.server.url).replace("BASE", self.home.server.base)
            path.write_text(filled, encoding="utf-8")
        return self

    def member(self, name: str) -> "Situation":
        """The same files, from another directory of theirs; remedies are remembered together."""
        other = Situation(self.home, self.root / name, self.root)
        other.told = self.told
        return other

    def write(self, text: str) -> "Situation":
        super().write(text.replace("SERVER", self.home.server.url))
        return self

    def uvtorch(self, *args: str, machine: str = "cpu-only", stdin: str = "", **env: str) -> Done:
        done = super().uvtorch(*args, machine=machine, stdin=stdin, **env)
        for row in done.err.splitlines():
            for remedy in _COMMAND.findall(row) if _is_ours(row) else ():
                copy = self.root.parent / f"told-{len(self.told)}"
                shutil.copytree(self.root, copy, ignore=shutil.ignore_patterns(".venv"))
                cwd = os.path.relpath(self.path, self.root)
                self.told.append(Told(remedy, row, args, machine, copy, cwd))
        return done

    def type_what_was_told(self) -> None:
        """Type each remedy where it was named: it works, and what named it is content, if it still runs."""
        for one in {told.message: told for told in self.told}.values():
            project = Project(self.home, one.copy / one.cwd)
            words = shlex.split(one.remedy)
            instead = words[0].startswith("--") or words[1:3] == [*one.command[:2]] or words[1] == "sync"
            if words[0].startswith("--"):  # in the place of what was said about the build
                rest = re.sub(r"--auto|--torch-backend \S+", "", shlex.join(one.command[1:]))
                words = ["uvtorch", one.command[0], *words, *shlex.split(rest)]
            run = project.uv if words[0] == "uv" else partial(project.uvtorch, machine=one.machine)
            run(*words[1:]).must()
            if not instead:
                again = project.uvtorch(*one.command, machine=one.machine)
                assert one.message not in again.err, (one.remedy, again.err)

    def versions(self, **expected: str) -> None:
        """The lock is in order and holds these versions, as `2.9.1+cpu`, and no other of these packages."""
        self.uv("lock", "--check").must()
        rows = Project(self.home, self.root).locked()
        found = {name: {version for version, _ in rows.get(name, ())} for name in expected}
        assert found == {name: {version} for name, version in expected.items()}, found


def unchanged(before: Mapping[str, bytes], project: Project) -> bool:
    """Whether every file is as it was, the lock left out."""
    after = project.state()
    return {k: v for k, v in before.items() if k != "uv.lock"} == {k: v for k, v in after.items() if k != "uv.lock"}


def _is_ours(row: str) -> bool:
    """Whether a line is a warning or a hint of uvtorch's own."""
    return row.startswith(("warning: ", "hint: ")) and "provide the `--frozen` flag" not in row


Make = Callable[[str], Situation]
