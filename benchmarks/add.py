"""What watching the lock adds to `uvtorch add requests`, over handing the command line to uv.

usage: python benchmarks/add.py

uv is a stand-in that changes uv.lock and nothing else, so all the time is uvtorch's own.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGE = (
    '\n[[package]]\nname = "package-{0}"\nversion = "1.0"\nsource = {{ registry = "https://example.com/simple" }}\n'
    "wheels = [\n" + '    {{ url = "https://example.com/package-{0}-1.0-{1}.whl", hash = "sha256:0" }},\n' * 8 + "]\n"
)
TORCH = (
    '\n[[package]]\nname = "torch"\nversion = "2.14.1+cu126"\n'
    'source = { registry = "https://download.pytorch.org/whl/cu126" }\n'
)
PROJECT = '[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = [{}]\n'
PINNED = (
    '\n[tool.uv.sources]\ntorch = { index = "pt" }\n\n'
    '[[tool.uv.index]]\nname = "pt"\nurl = "https://download.pytorch.org/whl/cu126"\nexplicit = true\n'
)
STAND_IN = "#!/bin/sh\n[ \"$1\" = add ] && printf '\\n' >>uv.lock\nexit 0\n"


def _lock(packages: int) -> str:
    head = 'version = 1\nrequires-python = ">=3.11"\n'
    return head + "".join(PACKAGE.format(number, "0" * 40) for number in range(packages))


def main(runs: int = 25) -> None:
    """Print the figures of one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uv = folder / "uv-stand-in"
        uv.write_text(STAND_IN)
        uv.chmod(0o755)
        environment = {**os.environ, "UVTORCH_UV": str(uv)}

        def measure(project: str, lock: str, *words: str) -> float:
            (folder / "pyproject.toml").write_text(project)
            times = []
            for _ in range(runs):
                (folder / "uv.lock").write_text(lock)
                before = time.perf_counter()
                subprocess.run([sys.executable, "-m", "uvtorch", *words], cwd=folder, env=environment, check=True)
                times.append(time.perf_counter() - before)
            return statistics.median(times) * 1e3

        bare, pinned = PROJECT.format(""), PROJECT.format('"torch"') + PINNED
        base = measure(bare, _lock(20), "tree")
        print(f"hand over (`uvtorch tree`): {base:.0f} ms")
        for text, project, packages, torch in (
            ("no torch, 20 packages", bare, 20, ""),
            ("no torch, 2,000 packages", bare, 2000, ""),
            ("torch pinned, 20 packages", pinned, 20, TORCH),
            ("torch pinned, 2,000 packages", pinned, 2000, TORCH),
        ):
            took = measure(project, _lock(packages) + torch, "add", "requests")
            print(f"`uvtorch add requests`, {text}: {took:.0f} ms, {took - base:+.0f} ms, {took / base:.1f} x")


if __name__ == "__main__":
    main()
