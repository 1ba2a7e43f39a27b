"""What the choice costs, how it compares with uv's own rule, and what it does with a catalog that is some releases old.

usage: python benchmarks/choose.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.choose.beside_uv import compare
from tests.choose.cut_off import table
from tests.choose.described import machine, request
from tests.choose.rows import ROWS
from uvtorch import catalog as catalogs
from uvtorch.choose import choose


def _milliseconds(times: list[float]) -> str:
    return f"median {statistics.median(times) * 1e3:.2f} ms, slowest {max(times) * 1e3:.2f} ms"


def main() -> None:
    """Print the figures of one run."""
    start = "import time, tomllib; import uvtorch.catalog as c; a = time.perf_counter(); c.load(); "
    start += "print(time.perf_counter() - a)"
    command = [sys.executable, "-c", start]
    loads = [float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(7)]
    print(f"load the catalog (cold process): {_milliseconds(loads)} (target: 10 ms)")
    catalog = catalogs.load()
    made = [(machine(row.machine), request(row.request)) for row in ROWS]
    for here, asked in made:  # once, so that `packaging` is loaded where a row needs it
        choose(here, asked, catalog)
    times = []
    for here, asked in made:
        before = time.perf_counter()
        choose(here, asked, catalog)
        times.append(time.perf_counter() - before)
    print(f"choose, {len(times)} rows: {_milliseconds(times)} (target: 5 ms)")
    print(compare(catalog))
    print(table())


if __name__ == "__main__":
    main()
