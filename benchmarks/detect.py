"""What detection costs: `python benchmarks/detect.py [ROUNDS]`.

Prints the interpreter's own start and what detection adds to it (imports included). Each row is the
fastest of ROUNDS starts; the rows take turns, so that a busy machine treats them alike.
"""

import os
import subprocess
import sys
import tempfile
import time

DETECT = "import os; from uvtorch import hardware; hardware.detect(os.environ)"
FINGERPRINT = "import os; from uvtorch.cache import fingerprint; fingerprint(os.environ)"
# A root without files: a machine without any GPU, whatever this one has.
BARE = "import os; from uvtorch import hardware; hardware.detect({{}}, root={root!r})"


def fastest(commands: dict[str, list[str]], rounds: int, bytecode: str) -> dict[str, float]:
    """The fastest of `rounds` runs of each command, in milliseconds, with compiled modules kept in `bytecode`."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = bytecode  # an installed package has its bytecode; a checkout may not
    best = dict.fromkeys(commands, float("inf"))
    for number in range(rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, check=False)
            if number:  # the first round compiles
                best[name] = min(best[name], (time.perf_counter() - started) * 1000)
    return best


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as bytecode:
        commands = {
            "start": [sys.executable, "-c", "pass"],
            "bare": [sys.executable, "-c", BARE.format(root=root)],
            "here": [sys.executable, "-c", DETECT],
            "fingerprint": [sys.executable, "-c", FINGERPRINT],
        }
        best = fastest(commands, rounds, bytecode)
    start = best["start"]
    print(f"python -c pass                            {start:8.1f} ms")
    print(f"detection adds, machine without a GPU     {best['bare'] - start:8.1f} ms")
    print(f"detection adds, this machine              {best['here'] - start:8.1f} ms")
    print(f"the fingerprint instead adds              {best['fingerprint'] - start:8.1f} ms   (target: at most 2)")
    if os.environ.get("UVTORCH_HARDWARE"):
        print("UVTORCH_HARDWARE is set: this machine was not asked")


if __name__ == "__main__":
    main()
