"""What plain uv would take on a machine, and whether that runs there: `uvtorch torch explain --compare`.

The rule of `--torch-backend auto` is in `catalog/uv.toml`: by the driver all CUDA indexes that it may run, highest
first, then the CPU's; the first index that has a match wins.
"""

import os
import shlex
import tomllib
from typing import Any, NamedTuple

from uvtorch.backend import Backend, parse
from uvtorch.catalog import Catalog, number
from uvtorch.choose import Option, Request, local_backend, rank_choices
from uvtorch.choose.compatibility import FAMILY, Judge
from uvtorch.choose.request import read
from uvtorch.machine import Machine


class Taken(NamedTuple):
    """What one command takes."""

    command: str
    backend: Backend | None
    """None: it finds no build."""
    option: Option
    """The torch, whether it runs on the machine and uses its GPU, and why."""
    verdict: str
    """The same in two or three words: `runs here`, `leaves the GPU idle`."""


def compare(machine: Machine, request: Request, catalog: Catalog) -> tuple[Taken, Taken]:
    """What `uv add` and uv's `--torch-backend=auto` take for a request. UsageError for one that cannot be read."""

    def judged(backend: Backend | None, torch: str | None) -> Option:
        return rank_choices(machine, request, [backend], catalog, [torch]).options[0]

    found, local = auto(machine, request, catalog), local_backend(request.requirements, machine)
    nothing = Option(None, None, False, "no index of its list has a match")
    plain = nothing._replace(reason=f"PyPI has no {local} build by that name") if local else judged(None, None)
    pypi, _ = catalog.on_pypi(plain.torch, machine.platform.key)
    names, automatic = shlex.join(request.requirements or ["torch"]), judged(*found) if found else nothing
    return (
        _taken(machine, f"uv add {names}", pypi, plain),
        _taken(machine, f"uv pip install {names} --torch-backend=auto", found and found[0], automatic),
    )


def _taken(machine: Machine, command: str, backend: Backend | None, option: Option) -> Taken:
    verdict = "runs here" if option.fits else "does not run here" if backend else "finds no build"
    if backend and not option.fits and backend.family not in {FAMILY.get(gpu.vendor) for gpu in machine.gpus}:
        verdict = "leaves the GPU idle"
    return Taken(command, backend, option, verdict)


def auto(machine: Machine, request: Request, catalog: Catalog) -> tuple[Backend, str] | None:
    """The build that uv takes with `--torch-backend=auto`: (backend, torch); None if it finds none."""
    need, judge, local = read(machine, request, catalog), Judge(machine, catalog), local_backend(request.requirements)
    for backend in (*filter(None, map(parse, _indexes(machine))), Backend("cpu")):
        for release in need.releases if local in (None, backend) else ():
            build = catalog.build(backend, release, judge.platform)
            if build and build.pythons & need.pythons and not judge.system_fault(backend, release):
                return backend, release
    return None


def _indexes(machine: Machine) -> list[str]:
    """The indexes that it searches before the CPU's."""
    with open(os.path.join(os.path.dirname(__file__), "catalog", "uv.toml"), "rb") as file:
        rule, system = tomllib.load(file), machine.platform.system
    if machine.nvidia_driver and system in ("linux", "windows"):
        return _cuda(rule, number(machine.nvidia_driver.version), system)
    vendors = {gpu.vendor for gpu in machine.gpus}
    if "amd" in vendors and system == "linux":
        first = min(gpu.architecture or "" for gpu in machine.gpus if gpu.vendor == "amd")
        return [name for name, architectures in rule["rocm"].items() if first in architectures.split()]
    return ["xpu"] if "intel" in vendors else []


def _cuda(rule: dict[str, Any], driver: tuple[int, ...], system: str) -> list[str]:
    majors = [major for major, least in rule["driver"].items() if driver >= number(least[system])]
    return [name for name in rule["cuda"].split() if name[2:4] in majors]
