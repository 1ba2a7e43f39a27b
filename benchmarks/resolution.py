"""What asking uv costs: `python benchmarks/resolution.py [ROUNDS [MILLISECONDS]]`.

Compares, as medians of ROUNDS runs in turns, `uvtorch lock --torch-backend auto` with `uv lock` of the same project
with the pin written by hand, both without a uv.lock: where the requirement's text and uv's resolution agree, a
constraint included (at most 1.25 times), and where another package caps torch (at most 3 times). Then `uvtorch add
torch` with the same `uv add` and its index written by hand (at most 1.15 times). The index answers each question after
MILLISECONDS (250, so that uv takes a second and more, as on a real network; 0: tens of milliseconds, and the rest is
Python). ROUNDS are 5. Needs uv on PATH or in UVTORCH_UV.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.index.server import Answer, IndexServer  # noqa: E402

HEAD = '[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.11"\n'
PIN = """\
[tool.uv.sources]
torch = [{{ index = "p", marker = "sys_platform == 'linux' or sys_platform == 'win32'" }}]
[[tool.uv.index]]
name = "p"
url = "{base}/{backend}"
explicit = true
"""
CAPPED = '[tool.uv]\nconstraint-dependencies = ["torch<2.12"]\n'


class Distant(IndexServer):
    """The index, on a network."""

    fresh = 0  # each run asks
    wait = 0.0
    """In seconds."""

    def answer(self, path: str) -> Answer:
        """The answer to a GET, late."""
        time.sleep(self.wait)
        return super().answer(path)


def medians(commands: dict[str, tuple[str, list[str]]], rounds: int, env: dict[str, str], here: Path) -> list[float]:
    """The median of each command in ms; a command is a pyproject.toml, written before each run, and its words."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, (text, words) in commands.items():
            (here / "pyproject.toml").write_text(text)
            (here / "uv.lock").unlink(missing_ok=True)
            started = time.perf_counter()
            subprocess.run(words, env=env, cwd=here, capture_output=True, check=True)
            if number:  # the first round warms uv's cache
                times[name].append((time.perf_counter() - started) * 1000)
    return [statistics.median(found) for found in times.values()]


def main() -> None:
    """Measure and print."""
    rounds, wait = map(int, [*sys.argv[1:], *("5", "250")[len(sys.argv) - 1 :]][:2])
    Distant.wait = wait / 1000
    uv = os.environ.get("UVTORCH_UV") or shutil.which("uv")
    if uv is None:
        raise SystemExit("no uv on PATH")
    uvtorch = [sys.executable, "-m", "uvtorch"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "UVTORCH_"))}
    with tempfile.TemporaryDirectory() as name, Distant() as server:
        here = Path(name) / "project"
        here.mkdir()
        env |= {
            "UVTORCH_UV": uv,
            "UVTORCH_INDEX_BASE": server.base,
            "UVTORCH_HARDWARE": str(ROOT / "tests" / "machines" / "h100-570.json"),
            "UV_CACHE_DIR": str(Path(name) / "cache"),
            "UV_DEFAULT_INDEX": server.default,
            "UV_PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
        }
        lock = [*uvtorch, "lock", "--torch-backend", "auto"]
        for title, more, extra, backend, target in (
            ("text and resolution agree", "", "", "cu126", 1.25),
            ("a constraint caps torch", "", CAPPED, "cu128", 1.25),
            ("another package caps torch", ', "capped-models"', "", "cu128", 3.0),
        ):
            text = HEAD + f'dependencies = ["torch>=2.6"{more}]\n{extra}'
            by_hand = text + PIN.format(base=server.base, backend=backend)
            ours, plain = medians({"ours": (text, lock), "uv": (by_hand, [uv, "lock"])}, rounds, env, here)
            print(f"lock, {title}: {ours:.0f} ms, uv {plain:.0f} ms, ratio {ours / plain:.2f} (at most {target})")
        empty = HEAD + "dependencies = []\n"
        add = ["add", "torch", "--no-sync"]
        commands = {
            "ours": (empty, [*uvtorch, *add]),
            "uv": (empty + PIN.format(base=server.base, backend="cu126"), [uv, *add]),
        }
        ours, plain = medians(commands, rounds, env, here)
        print(f"add, an edit is due: {ours:.0f} ms, uv {plain:.0f} ms, ratio {ours / plain:.2f} (at most 1.15)")


if __name__ == "__main__":
    main()
