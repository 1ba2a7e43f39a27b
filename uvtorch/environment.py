"""An installed environment: which PyTorch it has, read from its files; and whether that works, tried in a child.

Reading imports nothing of the environment: `*.dist-info` and the text of `torch/version.py`, which says what the build
was made for also where the version does not (PyPI's wheels).
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from uvtorch import files
from uvtorch.backend import Backend, parse
from uvtorch.choose.compatibility import FAMILY
from uvtorch.hardware.scene import run
from uvtorch.machine import Gpu
from uvtorch.packages import normalize, roles


class Build(NamedTuple):
    """One installed PyTorch package."""

    name: str  # Normalized
    version: str  # As its metadata has it; `2.9.1` for PyPI's build
    backend: Backend | None  # What it was built for; None where its files do not say
    broken: str = ""  # Why it cannot work, a clause

    @property
    def release(self) -> str:
        """The version without its local part."""
        return self.version.partition("+")[0]


class Venv(NamedTuple):
    """A virtual environment and what it has of PyTorch."""

    path: str
    python: str | None  # `3.12.4`, as pyvenv.cfg has it
    interpreter: str
    builds: tuple[Build, ...] = ()  # Torch first. A package is there twice if it has two sets of metadata.

    @property
    def shown(self) -> str:
        """Its path as it is printed."""
        return os.path.relpath(self.path)

    @property
    def torch(self) -> Build | None:
        """The installed torch."""
        return next((build for build in self.builds if build.name == "torch"), None)


def read(path: str) -> Venv | None:
    """What the environment at `path` has; None where there is no environment."""
    root = Path(path)
    configuration = files.text(str(root / "pyvenv.cfg"))
    if configuration is None:
        return None
    settings = dict(re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", configuration, re.MULTILINE))
    windows = root / "Scripts" / "python.exe"
    found = (*root.glob("Lib/site-packages"), *root.glob("lib*/python*/site-packages"))
    sites = {site.resolve() for site in found}  # lib64 is a link to lib, on most systems
    builds = (_build(info) for site in sites for info in site.glob("*.dist-info"))
    return Venv(
        path,
        settings.get("version_info") or settings.get("version"),
        str(windows if windows.exists() else root / "bin" / "python"),
        tuple(sorted(filter(None, builds), key=lambda build: (build.name != "torch", build.name, build.version))),
    )


_ASSIGNMENT: Final = r"""(?m)^(\w+)(?:\s*:[^=\n]*)?\s*=\s*(?:None|'([^'\n]*)'|"([^"\n]*)")\s*$"""
"""A name at the start of a line that is given a string or None: `cuda: Optional[str] = '12.8'`."""


def _build(info: Path) -> Build | None:
    named, _, version = info.name.removesuffix(".dist-info").partition("-")
    name = normalize(named)
    if roles().get(name) != "pin":
        return None
    package = info.parent / name
    broken = "" if package.is_dir() else "its files are missing"
    if not (info / "METADATA").is_file():
        broken = "its metadata is missing"
    source = files.text(str(package / "version.py")) or ""
    facts = {key: one or other for key, one, other in re.findall(_ASSIGNMENT, source)}
    backend = _local(version) or _local(facts.get("__version__", "")) or _stated(facts)
    return Build(name, version, backend, broken)


def _local(version: str) -> Backend | None:
    return parse(version.partition("+")[2])


def _stated(facts: Mapping[str, str]) -> Backend | None:
    """The backend that `torch/version.py` states: `cuda = '12.8'`, `hip = '6.4.43482'`, or none of both."""
    if facts.get("cuda"):
        return parse("cu" + "".join(facts["cuda"].split(".")[:2]))
    if facts.get("hip"):
        return parse("rocm" + ".".join(facts["hip"].split(".")[:2]))
    if facts.get("xpu"):
        return Backend("xpu")
    return Backend("cpu") if "cuda" in facts else None


class Trial(NamedTuple):
    """What came of importing torch and computing on every GPU."""

    failure: str = ""  # Why torch could not even be imported, one line; empty: it was
    version: str = ""
    devices: tuple[tuple[str, str], ...] = ()  # (`cuda:0`, what went wrong there); empty text: it computed


_SCRIPT = """
import json, os
def tell(failure, version="", devices=()):
    print("\\nUVTORCH " + json.dumps([failure, version, devices]), flush=True)
    os._exit(0)  # taking CUDA down may take longer than all the rest
def told(error):
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
try:
    import torch
except BaseException as error:
    tell(told(error))
names = [f"cuda:{at}" for at in range(torch.cuda.device_count())]
if getattr(torch, "xpu", None) and torch.xpu.is_available():
    names += [f"xpu:{at}" for at in range(torch.xpu.device_count())]
if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
    names.append("mps")
devices = []
for name in names:
    try:
        ones = torch.ones(8, 8, device=name)
        right = float((ones @ ones).sum().item()) == 512.0
        devices.append([name, "" if right else "a product of matrices came out wrong"])
    except BaseException as error:
        devices.append([name, told(error)])
tell("", str(torch.__version__), devices)
"""


def attempt(interpreter: str, env: Mapping[str, str], script: str = _SCRIPT, seconds: float = 60) -> Trial:
    """Import torch in a child of that interpreter and compute once on every GPU it sees.

    The child and all it started are killed after `seconds`; importing torch from a cold disk takes half a minute.
    """
    done = run((os.path.abspath(interpreter), "-I", "-c", script), env, seconds)
    if told := re.findall("^UVTORCH (.*)", done.output, re.MULTILINE):
        failure, version, devices = json.loads(told[-1])
        return Trial(failure, version, tuple(map(tuple, devices)))
    if done.failure:
        return Trial(f"it {done.failure}")
    how = f"killed by signal {-done.code}" if done.code and done.code < 0 else f"exit {done.code}"
    last = done.output.strip().rpartition("\n")[2].strip()
    return Trial(f"{how}: {last[:300] or 'no output'}")


def expects_gpu(backend: Backend | None, gpus: Iterable[Gpu]) -> bool:
    """Whether a build should see one of these GPUs."""
    return backend is not None and any(FAMILY.get(gpu.vendor) == backend.family for gpu in gpus)
