"""What `uvtorch sync --auto` costs where there is nothing to do: `python benchmarks/sync.py [ROUNDS]`.

Installs uvtorch as users have it (a wheel, compiled) into an environment of its own, and compares `uvtorch sync --auto`
with the command that it comes to, `uv sync --extra cpu`, plus the start of a bare interpreter, in two projects: one of
four packages, and one of a hundred more. Each row is the fastest of ROUNDS runs; the rows take turns, so that a busy
machine treats them alike. Needs uv on PATH or in UVTORCH_UV.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.index import contents  # noqa: E402
from tests.index.server import IndexServer  # noqa: E402
from tests.index.wheels import Wheel  # noqa: E402

TARGET = 1.5
FILLERS = 100


def fastest(commands: dict[str, list[str]], rounds: int, env: dict[str, str], directory: Path) -> dict[str, float]:
    """The fastest of `rounds` runs of each command, in milliseconds."""
    best = dict.fromkeys(commands, float("inf"))
    for number in range(rounds + 2):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, env=env, cwd=directory, capture_output=True, check=True)
            if number > 1:  # the first rounds warm the caches up
                best[name] = min(best[name], (time.perf_counter() - started) * 1000)
    return best


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    uv = os.environ.get("UVTORCH_UV") or shutil.which("uv")
    if uv is None:
        raise SystemExit("no uv on PATH")
    fillers = tuple(Wheel(f"filler-{number}", "1.0") for number in range(FILLERS))
    setattr(contents, "CURRENT", (*contents.CURRENT, *fillers))  # noqa: B010  # it is final, for everybody else
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "UVTORCH_", "PYTHON"))}
    with tempfile.TemporaryDirectory() as name, IndexServer() as server:
        here = Path(name)
        tool = here / "tool"
        subprocess.run([uv, "build", "-q", "--wheel", "-o", str(here), str(ROOT)], check=True, env=env)
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(tool)], check=True, env=env)
        (wheel,) = here.glob("*.whl")
        install = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(tool), str(wheel)]
        subprocess.run(install, check=True, env=env)
        scripts = tool / ("Scripts" if os.name == "nt" else "bin")
        env |= {
            "UVTORCH_UV": uv,
            "UVTORCH_INDEX_BASE": server.base,
            "UV_CACHE_DIR": str(here / "cache"),
            "UV_DEFAULT_INDEX": server.default,
            "UV_PYTHON": sys.executable,
            "UV_TORCH_BACKEND": "",
            "CUDA_VISIBLE_DEVICES": "",  # the same choice on every machine: cpu
        }
        for packages in ([], [wheel.name for wheel in fillers]):
            project = here / f"project-{len(packages)}"
            project.mkdir()
            listed = ", ".join(f'"{name}"' for name in ("torch", *packages))
            text = f'[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = [{listed}]\n'
            (project / "pyproject.toml").write_text(text)
            uvtorch = str(scripts / "uvtorch")
            for words in (["torch", "backends", "cpu", "cu126", "cu130"], ["sync", "--auto"]):
                subprocess.run([uvtorch, *words], check=True, env=env, cwd=project, capture_output=True)
            commands = {
                "uvtorch sync --auto": [uvtorch, "sync", "--auto"],
                "uv sync --extra cpu": [uv, "sync", "--extra", "cpu"],
                "python -c pass": [str(scripts / "python"), "-c", "pass"],
            }
            best = fastest(commands, rounds, env, project)
            print(f"{len(packages) + 4} packages installed")
            for command, cost in best.items():
                print(f"  {command:<20} {cost:6.1f} ms")
            ours, plain, bare = best.values()
            print(f"  ratio to both: {ours / (plain + bare):.2f} (target: at most {TARGET})")


if __name__ == "__main__":
    main()
