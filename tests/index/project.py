"""A project in a directory of its own, and the real uv and uvtorch run in it."""

import os
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from tests.index.forked import FORKED
from tests.index.server import IndexServer

MACHINES = Path(__file__).parents[1] / "machines"
TRITON = frozenset(("triton-rocm", "triton-xpu", "pytorch-triton-rocm", "pytorch-triton-xpu"))
PYTORCH = frozenset(("torch", "torchvision", "torchaudio")) | TRITON
PLATFORMS = {
    "linux_x86_64": ("linux", "x86_64"),
    "linux_aarch64": ("linux", "aarch64"),
    "windows": ("win32", "AMD64"),
    "macos": ("darwin", "arm64"),
}


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def must(self, code: int = 0) -> "Done":
        assert self.code == code, f"exit {self.code}\n{self.out}\n{self.err}"
        return self

    @property
    def ours(self) -> list[str]:
        """The lines of stderr that are uvtorch's decisions."""
        return [row for row in self.err.splitlines() if row.startswith("uvtorch: ")]


class Home(NamedTuple):
    """What every project of a test session shares: uv, its cache and its configuration, the indexes."""

    server: IndexServer
    uv: str
    environment: Mapping[str, str]


class Project:
    """A directory with a pyproject.toml (unless a test takes it away)."""

    def __init__(self, home: Home, path: Path) -> None:
        self.home = home
        self.path = path
        self.environment = dict(home.environment)

    def uv(self, *args: str, **env: str) -> Done:
        """Run the real uv here."""
        return self._run([self.home.uv, *args], env)

    def _run(self, command: list[str], env: Mapping[str, str]) -> Done:
        done = subprocess.run(
            command,
            cwd=self.path,
            env={**self.environment, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def uvtorch(self, *args: str, machine: str = "cpu-only", stdin: str = "", **env: str) -> Done:
        """Run uvtorch here, on the machine of this name in tests/machines."""
        described = {"UVTORCH_HARDWARE": str(MACHINES / f"{machine}.json")}
        done = FORKED.run(args, self.path, {**self.environment, **described, **env}, stdin.encode())
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    @property
    def file(self) -> Path:
        return self.path / "pyproject.toml"

    @property
    def text(self) -> str:
        """pyproject.toml, with PyTorch's own server in the place of the one on this machine."""
        text = self.file.read_bytes().decode()
        return text.replace(self.home.server.base, "https://download.pytorch.org/whl")

    @property
    def data(self) -> dict[str, Any]:
        return tomllib.loads(self.text.removeprefix("\ufeff"))

    def write(self, text: str) -> "Project":
        """Write pyproject.toml; `BASE` stands for the indexes' URL."""
        self.file.write_bytes(text.replace("BASE", self.home.server.base).encode())
        return self

    def append(self, text: str) -> "Project":
        with open(self.file, "ab") as file:
            file.write(text.replace("BASE", self.home.server.base).encode())
        return self

    def state(self) -> dict[str, bytes]:
        """Every file here with its content, environments left out."""
        found = {}
        for folder, folders, files in os.walk(self.path):
            folders[:] = [name for name in folders if name not in (".venv", ".git")]
            for name in files:
                path = Path(folder, name)
                found[str(path.relative_to(self.path))] = path.read_bytes()
        return found

    def locked(self, lock: str = "uv.lock") -> dict[str, set[tuple[str, str]]]:
        """Package -> (version, index) as uv.lock has them; the index without the server: `simple`, `whl/cu128`."""
        data = tomllib.loads((self.path / lock).read_text(encoding="utf-8"))
        found: dict[str, set[tuple[str, str]]] = {}
        for row in data["package"]:
            if "registry" in row["source"]:
                index = row["source"]["registry"].removeprefix(self.home.server.url).strip("/")
                found.setdefault(row["name"], set()).add((row["version"], index))
        return found

    def check(self, backend: str | None, *options: str) -> None:
        """Plain uv is content with the lock, and nothing but PyTorch's packages comes from a PyTorch index.

        All those are of one backend; where it has no wheels for a platform, PyPI's are locked beside it. `options` are
        for `uv sync`.
        """
        self.uv("sync", "--locked", "--dry-run", *options).must()
        for name, rows in self.locked().items():
            indexes = {index for _, index in rows}
            if name in PYTORCH:
                assert indexes - {"simple"} == ({f"whl/{backend}"} if backend else set()), (name, rows)
            else:
                assert indexes == {"simple"}, (name, rows)
        for platform, versions in self.by_platform().items():
            locals_ = {version.partition("+")[2] for name, version in versions.items() if name in PYTORCH - TRITON}
            assert len(locals_) <= 1, (platform, versions)

    def by_platform(self) -> dict[str, dict[str, str]]:
        """Platform -> package -> the version that uv.lock has for it, every group and extra included."""
        export = ["export", "--locked", "--all-extras", "--all-groups", "--no-hashes", "--no-header", "--no-annotate"]
        rows = [row for row in self.uv(*export, "--no-emit-project").must().out.splitlines() if "==" in row]
        found: dict[str, dict[str, str]] = {}
        for platform, (system, machine) in PLATFORMS.items():
            environment = {"sys_platform": system, "platform_machine": machine}
            versions = found[platform] = {}
            for requirement in map(Requirement, rows):
                if requirement.marker is None or requirement.marker.evaluate(environment):
                    assert requirement.name not in versions, (platform, rows)
                    versions[requirement.name] = str(requirement.specifier).removeprefix("==")
        return found

    def installed(self) -> dict[str, str]:
        """What the project's environment has."""
        rows = self.uv("pip", "freeze", "--python", ".venv").must().out.splitlines()
        return {name: version for name, _, version in (row.partition("==") for row in rows)}


Shell = Callable[[Project, str], None]
"""Types this in a project."""
