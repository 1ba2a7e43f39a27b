"""What uvtorch adds to uv's own time, as ratios from one run on one machine.

    python benchmarks/overhead.py [--runs N]

Installs this checkout with `uv pip install` (not editable) into a fresh environment, then runs each pair of commands in
turns, so that a slow moment of the machine meets both, and compares medians:

- handing over (`--version`, `pip list`) against the same uv command and a bare `python -c pass`: at most 1.3;
- `add torch` in a project that is pinned already, against bare `uv add torch` there: at most 2.5 starts of Python more.

Everything is local: the project's torch is a wheel that is made here, found by a small index on 127.0.0.1.
"""

import argparse
import http.server
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYPROJECT = """\
[project]
name = "demo"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["torch"]

[tool.uv]
environments = ["sys_platform == 'linux'"]

[tool.uv.sources]
torch = [{{ index = "pytorch-cpu" }}]

[[tool.uv.index]]
name = "pytorch-cpu"
url = "{base}/cpu"
explicit = true
"""


class Index(http.server.SimpleHTTPRequestHandler):
    """A directory as an index; silent."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, D102
        pass


def make_wheel(directory: Path) -> None:
    """An empty torch 2.9.1+cpu, and the page that lists it."""
    directory.mkdir(parents=True)
    info = "torch-2.9.1+cpu.dist-info"
    with zipfile.ZipFile(directory / "torch-2.9.1+cpu-py3-none-any.whl", "w") as archive:
        archive.writestr("torch/__init__.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.9.1+cpu\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    link = '<!DOCTYPE html><a href="torch-2.9.1%2Bcpu-py3-none-any.whl">torch-2.9.1+cpu-py3-none-any.whl</a>'
    (directory / "index.html").write_text(link)


class Timer:
    """Runs commands in one directory and environment."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = environment

    def seconds(self, command: Sequence[str]) -> float:
        """How long one run takes; the end of the benchmark if it fails."""
        start = time.perf_counter()
        done = subprocess.run(command, cwd=self.directory, env=self.environment, capture_output=True, check=False)
        taken = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"{command}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}")
        return taken

    def medians(self, *commands: Sequence[str], runs: int) -> list[float]:
        """The median time of each, taken in turns; the first turn, which fills caches, does not count."""
        taken: list[list[float]] = [[] for _ in commands]
        for turn in range(runs + 1):
            for times, command in zip(taken, commands, strict=True):
                second = self.seconds(command)
                if turn:
                    times.append(second)
        return [statistics.median(times) for times in taken]


def main() -> None:
    """Read the options, measure in a directory that goes away."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=41)
    runs = options.parse_args().runs
    uv = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv")
    if uv is None:
        sys.exit("there is no uv")
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), uv, runs)


def measure(directory: Path, uv: str, runs: int) -> None:
    """Install, run, print."""
    venv = directory / "venv"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, venv], check=True)
    python = venv / ("Scripts" if os.name == "nt" else "bin") / "python"
    # uv builds a folder anew where its pyproject.toml has changed, or when it is told to.
    command = [uv, "pip", "install", "-q", "--compile-bytecode", "--refresh-package", "uvtorch"]
    subprocess.run([*command, "--python", str(python), str(ROOT)], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "UVTORCH_"))}
    environment |= {"UVTORCH_UV": uv, "VIRTUAL_ENV": str(venv), "UV_PYTHON": str(python)}
    uvtorch = str(python.with_name("uvtorch"))
    start = [str(python), "-c", "pass"]

    timer = Timer(directory, environment)
    (directory / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    for arguments in (["--version"], ["pip", "list"]):
        bare, ours, python_alone = timer.medians([uv, *arguments], [uvtorch, *arguments], start, runs=runs)
        print(
            f"uvtorch {' '.join(arguments):<12} {ours / (bare + python_alone):5.2f} times uv and `python -c pass`"
            f" (target at most 1.3; {ours * 1e3:.1f} ms, {bare * 1e3:.1f} + {python_alone * 1e3:.1f} ms)"
        )

    make_wheel(directory / "index" / "cpu" / "torch")
    handler = lambda *args: Index(*args, directory=str(directory / "index"))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        project = directory / "project"
        project.mkdir()
        (project / "pyproject.toml").write_text(PYPROJECT.format(base=base))
        del environment["VIRTUAL_ENV"]
        timer = Timer(project, environment | {"UV_CACHE_DIR": str(directory / "cache")})
        add = ["add", "torch"]
        bare, ours, python_alone = timer.medians([uv, *add], [uvtorch, *add], start, runs=runs)
        print(
            f"uvtorch {' '.join(add):<12} {(ours - bare) / python_alone:5.2f} starts of Python more than uv"
            f" (target at most 2.5; {ours * 1e3:.1f} ms, {bare * 1e3:.1f} ms, a start {python_alone * 1e3:.1f} ms)"
        )
        server.shutdown()


if __name__ == "__main__":
    main()
