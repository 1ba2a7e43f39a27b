"""What the audit of a large lock costs.

usage: python benchmarks/audit.py [PACKAGES]

Makes up the uv.lock of a project with three backend choices (default: 2,000 packages of 20 wheels each), has the uv on
PATH export each selection, audits it, and prints the time of each step: once with every hundredth package in need of
torch, once with every fifth, where nearly all of the lock leads there. Without garbage collection, as uvtorch itself.
Target: a second for all of it.
"""

import gc
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from uvtorch import catalog
from uvtorch.audit import Case, config, read_export, selections
from uvtorch.audit import lock as checks
from uvtorch.machine import Machine, Platform
from uvtorch.project import Environment, read
from uvtorch.project.lock import read_lock

T = TypeVar("T")

BACKENDS = ("cpu", "cu126", "cu130")
ROOT = "https://download.pytorch.org/whl"
DEFAULT = "https://index.example.com/simple"
PROJECT = (
    '[project]\nname = "demo"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["p0"]\n'
    "[project.optional-dependencies]\n"
    + "".join(f'{name} = ["torch", "torchvision"]\n' for name in BACKENDS)
    + "[tool.uv]\nconflicts = [["
    + ", ".join(f'{{ extra = "{name}" }}' for name in BACKENDS)
    + "]]\n[tool.uv.sources]\n"
    + "".join(
        f"{package} = [" + ", ".join(f'{{ index = "{name}", extra = "{name}" }}' for name in BACKENDS) + "]\n"
        for package in ("torch", "torchvision")
    )
    + "".join(f'[[tool.uv.index]]\nname = "{name}"\nurl = "{ROOT}/{name}"\nexplicit = true\n' for name in BACKENDS)
)


def marker(backend: str) -> str:
    """The marker of one choice, as uv writes it."""
    return " and ".join(f"extra {'==' if name == backend else '!='} 'extra-4-demo-{name}'" for name in sorted(BACKENDS))


def edges(package: str, version: str) -> str:
    """The dependencies on a package's builds of every choice."""
    return "".join(
        f'    {{ name = "{package}", version = "{version}+{name}", source = {{ registry = "{ROOT}/{name}" }}, '
        f'marker = "{marker(name)}" }},\n'
        for name in BACKENDS
    )


def wheels(url: str, name: str, version: str, count: int) -> str:
    """A package's wheels, with hashes as long as the real ones."""
    rows = "".join(
        f'    {{ url = "{url}/{name}-{version}-cp3{10 + at % 5}-cp3{10 + at % 5}-manylinux_2_28_x86_64.whl", '
        f'hash = "sha256:{at:064x}", size = 123456, upload-time = "2026-01-01T00:00:00Z" }},\n'
        for at in range(count)
    )
    return f"wheels = [\n{rows}]\n"


def made_up(count: int, every: int = 5) -> str:
    """The text of a uv.lock with `count` packages, one in `every` of which needs torch, and PyTorch's."""
    parts = [
        'version = 1\nrevision = 3\nrequires-python = ">=3.11"\nresolution-markers = [\n'
        + "".join(f'    "{marker(name)}",\n' for name in BACKENDS)
        + "]\n"
    ]
    optional = "".join(
        f'{name} = [\n    {{ name = "torch", version = "2.11.0+{name}", source = {{ registry = "{ROOT}/{name}" }} }},\n'
        f'    {{ name = "torchvision", version = "0.26.0+{name}", source = {{ registry = "{ROOT}/{name}" }} }},\n]\n'
        for name in BACKENDS
    )
    parts.append(
        'name = "demo"\nversion = "1"\nsource = { virtual = "." }\n'
        f'dependencies = [\n    {{ name = "p0" }},\n]\n\n[package.optional-dependencies]\n{optional}'
    )
    for at in range(count):
        near = "".join(
            f"    {{ name = \"p{other}\", marker = \"python_full_version < '3.13' or sys_platform == 'linux'\" }},\n"
            for other in dict.fromkeys((at + 1, at + 2, at + 7, 2 * at + 1, 3 * at + 2))
            if other < count
        )
        torch = edges("torch", "2.11.0") if at % every == 0 else ""
        parts.append(
            f'name = "p{at}"\nversion = "1.{at}"\nsource = {{ registry = "{DEFAULT}" }}\n'
            f'dependencies = [\n{near}{torch}]\nsdist = {{ url = "https://files.example.com/p{at}.tar.gz", '
            f'hash = "sha256:{at:064x}", size = 1 }}\n' + wheels("https://files.example.com", f"p{at}", f"1.{at}", 20)
        )
    for package, version in (("torch", "2.11.0"), ("torchvision", "0.26.0")):
        for name in BACKENDS:
            needs = edges("torch", "2.11.0") if package == "torchvision" else '    { name = "p1" },\n'
            parts.append(
                f'name = "{package}"\nversion = "{version}+{name}"\nsource = {{ registry = "{ROOT}/{name}" }}\n'
                f'resolution-markers = [\n    "{marker(name)}",\n]\ndependencies = [\n{needs}]\n'
                + wheels(f"{ROOT}/{name}", package, f"{version}%2B{name}", 20)
            )
    return "\n[[package]]\n".join(parts)


def timed(label: str, action: Callable[[], T], times: int = 5) -> T:
    """Print the best of some runs in ms."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        result = action()
        best = min(best, time.perf_counter() - start)
    print(f"{label:32} {best * 1000:7.1f} ms")
    return result


def export(folder: str, options: Iterable[str]) -> str:
    """What uv exports for a selection, as doctor asks it."""
    words = ["uv", "export", "--frozen", "--quiet", "--no-header", "--format", "pylock.toml", *options]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout


def main(count: int) -> None:
    """Print the tables."""
    gc.disable()
    for every in (100, 5):
        measure(made_up(count, every), f"{count} packages, 1 in {every} needs torch")


def measure(text: str, label: str) -> None:
    """Print the table of one lock."""
    known = catalog.load()
    here = Environment(Platform("linux", "x86_64"), "3.12")
    project = read(tomllib.loads(PROJECT))
    print(f"{label}, {len(text) / 1e6:.1f} MB")
    lock = timed("read uv.lock", lambda: read_lock(text))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pyproject.toml").write_text(PROJECT)
        Path(folder, "uv.lock").write_text(text)
        texts = timed(
            f"uv export of {len(selections(project))} selections",
            lambda: {label: export(folder, options) for label, options in selections(project).items()},
        )
    exports = timed("read the exports", lambda: {one: read_export(texts[one], project.is_pytorch) for one in texts})
    case = Case(Machine(here.platform), known, project, lock, exports, here.python)
    found = timed("audit", lambda: [*config.check(case), *checks.check(case, lock)])
    timed("tomllib of uv.lock, for comparison", lambda: tomllib.loads(text), 1)
    print("findings:", ", ".join(finding.code for finding in found) or "none")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
