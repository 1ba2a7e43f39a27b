"""An installed environment: which PyTorch it has, read from its files; and whether that works, tried in a child.

Reading imports nothing of the environment: `*.dist-info` and the text of `torch/version.py`, which says what the build
was made for also where the version does not (PyPI's wheels).
"""

import os
from collections.abc import Iterable, Mapping

from uvtorch.backend import Backend, parse
from uvtorch.machine import Gpu
from uvtorch.named import NamedTuple
from uvtorch.packages import normalize, pinned

TRIAL_SECONDS = 60.0
"""How long a trial may take: importing torch from a cold disk takes half a minute."""

CUDA_LIBRARIES = ("libcudart", "libcublas", "libcublasLt", "libcudnn", "libnccl", "libnvrtc", "libcusparse", "libcufft")
"""What the CUDA builds of torch bring with them, and look for by name."""


class Build(NamedTuple):
    """One installed PyTorch package."""

    name: str
    """Normalized."""
    version: str
    """As its metadata have it; `2.9.1` for PyPI's build."""
    backend: Backend | None
    """What it was built for; None where its files do not say."""
    broken: str = ""
    """Why it cannot work, a clause: its files are missing."""


class Environment(NamedTuple):
    """An environment and what it has of PyTorch."""

    path: str
    python: str | None
    """`3.12.4`, as pyvenv.cfg has it."""
    interpreter: str
    builds: tuple[Build, ...] = ()
    """Torch first. A package is there twice if it has two sets of metadata."""
    libraries: frozenset[str] = frozenset()
    """The names of the CUDA libraries that its packages bring: `libcudart.so.12`."""

    @property
    def torch(self) -> Build | None:
        """The installed torch."""
        return next((build for build in self.builds if build.name == "torch"), None)


def read(path: str) -> Environment | None:
    """What the environment at `path` has; None where there is no environment."""
    try:
        with open(os.path.join(path, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            rows = [line.partition("=") for line in file]
    except OSError:
        return None
    settings = {key.strip(): value.strip() for key, _, value in rows}
    windows = os.path.join(path, "Scripts", "python.exe")
    interpreter = windows if os.path.exists(windows) else os.path.join(path, "bin", "python")
    builds: list[Build] = []
    libraries: set[str] = set()
    for site in _site_packages(path):
        builds += _builds(site)
        libraries |= _libraries(site)
    builds.sort(key=lambda build: (build.name != "torch", build.name))
    version = settings.get("version_info") or settings.get("version")
    return Environment(path, version, interpreter, tuple(builds), frozenset(libraries))


def _site_packages(path: str) -> list[str]:
    found = [os.path.join(path, "Lib", "site-packages")]
    for lib in ("lib", "lib64"):
        root = os.path.join(path, lib)
        if not os.path.islink(root):  # lib64 is a link to lib
            found += [os.path.join(root, name, "site-packages") for name in _names(root) if name.startswith("python")]
    unique: dict[str, str] = {}
    for site in found:
        if os.path.isdir(site):
            unique.setdefault(os.path.realpath(site), site)
    return list(unique.values())


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _builds(site: str) -> list[Build]:
    known = pinned()
    found = []
    for entry in _names(site):
        if entry.endswith(".dist-info"):
            name, _, version = entry.removesuffix(".dist-info").partition("-")
            if normalize(name) in known:
                found.append(_build(site, entry, normalize(name), version))
    return found


def _build(site: str, info: str, name: str, version: str) -> Build:
    metadata = _text(os.path.join(site, info, "METADATA"))
    stated = next((row[9:].strip() for row in (metadata or "").splitlines() if row.startswith("Version: ")), None)
    facts = _assignments(_text(os.path.join(site, name, "version.py")) or "")
    broken = ""
    if metadata is None or stated is None:
        broken = "its metadata are missing"
    elif not os.path.isdir(os.path.join(site, name)):
        broken = "its files are missing"
    version = stated or version
    for text in (version, facts.get("__version__", "")):
        if backend := parse(text.partition("+")[2]):
            return Build(name, version, backend, broken)
    return Build(name, version, _told(facts), broken)


def _told(facts: Mapping[str, str]) -> Backend | None:
    """The backend that `torch/version.py` states: `cuda = '12.8'`, `hip = '6.4.43482'`, or none of both."""
    if facts.get("cuda"):
        return parse("cu" + "".join(facts["cuda"].split(".")[:2]))
    if facts.get("hip"):
        return parse("rocm" + ".".join(facts["hip"].split(".")[:2]))
    if facts.get("xpu"):
        return Backend("xpu")
    return Backend("cpu") if "cuda" in facts else None


def _assignments(text: str) -> dict[str, str]:
    """The names at the start of a line that are given a string or None: `cuda: Optional[str] = '12.8'`."""
    found = {}
    for row in text.splitlines():
        left, equals, right = row.partition("=")
        name, value = left.partition(":")[0].strip(), right.strip()
        if equals and name.isidentifier() and not row[:1].isspace():
            if value == "None":
                found[name] = ""
            elif len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                found[name] = value[1:-1]
    return found


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _libraries(site: str) -> set[str]:
    folders = [os.path.join(site, "torch", "lib")]
    nvidia = os.path.join(site, "nvidia")
    folders += [os.path.join(nvidia, name, "lib") for name in _names(nvidia)]
    return {name for folder in folders for name in _names(folder) if _is_cuda(name)}


def _is_cuda(name: str) -> bool:
    return ".so" in name and name.partition(".so")[0].partition("-")[0] in CUDA_LIBRARIES


def shadowing(variable: str, libraries: Iterable[str] = ()) -> tuple[str, ...]:
    """The CUDA libraries that the directories of an `LD_LIBRARY_PATH` put before those of torch's wheels.

    `libraries` are the names that the wheels bring; a library of another name (CUDA 11's for CUDA 12's) stands in
    nobody's way. Empty: not known, so any counts.
    """
    wanted = set(libraries)
    found = []
    for folder in dict.fromkeys(part for part in variable.split(":") if part):
        names = [name for name in _names(folder) if _is_cuda(name) and name[-1:].isdigit()]
        found += [os.path.join(folder, name) for name in names if not wanted or name in wanted]
    return tuple(found)


class Trial(NamedTuple):
    """What came of importing torch and computing on every GPU."""

    failure: str = ""
    """Why torch could not even be imported, one line; empty: it was."""
    version: str = ""
    devices: tuple[tuple[str, str], ...] = ()
    """(`cuda:0`, what went wrong there); empty text: it computed."""


_SCRIPT = """
import json, os
def tell(**facts):
    print("\\nUVTORCH " + json.dumps(facts), flush=True)
    os._exit(0)  # taking CUDA down may take longer than all the rest
try:
    import torch
except BaseException as error:
    tell(failure=f"{type(error).__name__}: {error}")
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
        devices.append([name, f"{type(error).__name__}: {error}"])
tell(version=str(torch.__version__), devices=devices)
"""


def attempt(interpreter: str, env: Mapping[str, str], script: str = _SCRIPT, seconds: float = TRIAL_SECONDS) -> Trial:
    """Import torch in a child of that interpreter and compute once on every GPU it sees.

    The child and all it started are killed after `seconds`.
    """
    import json

    from uvtorch.hardware.programs import run

    left = {name: value for name, value in env.items() if name not in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")}
    done = run((os.path.abspath(interpreter), "-I", "-c", script), left, seconds)
    row = next((row for row in reversed(done.output.splitlines()) if row.startswith("UVTORCH ")), None)
    if row is None and done.failure:
        return Trial(f"it {done.failure}")
    if row is None:
        last = next((row.strip() for row in reversed(done.output.splitlines()) if row.strip()), "no output")
        how = f"killed by signal {-done.code}" if done.code and done.code < 0 else f"exit {done.code}"
        return Trial(f"{how}: {last[:300]}")
    told = json.loads(row[8:])
    if "failure" in told:
        return Trial(" ".join(told["failure"].split())[:500])
    devices = tuple((name, " ".join(fault.split())[:300]) for name, fault in told["devices"])
    return Trial("", told["version"], devices)


def expects_gpu(backend: Backend | None, gpus: Iterable[Gpu]) -> bool:
    """Whether a build should see one of these GPUs."""
    if backend is None:
        return False
    vendor = {"cu": "nvidia", "rocm": "amd", "xpu": "intel"}.get(backend.family)
    return any(gpu.vendor == vendor for gpu in gpus)
