"""The project layouts under the real uv: what it installs for each choice is what the choice says.

Every index of a layout becomes a folder of tiny wheels whose local version is the backend that the index's URL names
(none for PyPI, `other` where the URL does not say), so nothing is fetched.
"""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from tests.test_choices import EXPECTED, LAYOUTS, layout, tables
from uvtorch.backend import from_url
from uvtorch.machine import Platform
from uvtorch.packages import normalize
from uvtorch.project import Choice, Index, Target
from uvtorch.steps.choices import Asked, selection

BUILDS = ("torch", "torchvision", "torchaudio", "torchao", "triton", "pytorch-triton-rocm", "pytorch-triton-xpu")
LINUX = Platform("linux", "x86_64")

REFUSED = {"source-without-requirement"}
"""uv refuses these; what was meant is recognized all the same."""
UNBOUND = {"pin-for-an-extra", "sources-without-a-project"}
"""Pins without a requirement of the base: there is nothing to install until an extra or a member asks."""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="the expectations are those of Linux on x86-64"
)


def wheel(folder: Path, name: str, local: str = "") -> Path:
    """A wheel without content, version 1."""
    stem = f"{name.replace('-', '_')}-1{'+' + local if local else ''}"
    path = folder / f"{stem}-py3-none-any.whl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        info = f"{stem}.dist-info"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {stem.partition('-')[2]}\n"
            )
            file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr(f"{info}/RECORD", "")
    return path


def local_version(url: str) -> str:
    backend = from_url(url)
    return backend.name if backend else "other"


def folder_of(wheels: Path, entry: Any) -> Path:
    """The folder that stands for an index."""
    if Index(entry.get("name"), entry["url"], default=entry.get("default", False)).is_pypi:
        return wheels / "pypi"
    local = local_version(entry["url"])
    folder = wheels / local
    if local == "other" and not entry.get("explicit"):  # a house index that has no PyTorch
        wheel(wheels / "house", "house-package")
        return wheels / "house"
    for name in BUILDS:
        wheel(folder, name, local)
    for name in ("vllm", "natten", "onnxruntime-gpu", "flashinfer-python"):
        wheel(folder, name)
    return folder


def localized(data: dict[str, Any], wheels: Path) -> str:
    """The layout's text with local folders for indexes and without version specifiers."""
    project = data.get("project", {})
    members = {"member", "single", normalize(project.get("name", ""))}

    def bare(text: str) -> str:
        match = re.match(r"[A-Za-z0-9._-]+(\[[^]]*\])?", text)
        assert match is not None
        name = normalize(match[0].partition("[")[0])
        if name not in members:
            wheel(wheels / "pypi", name)
        marker = text.partition(";")[2]
        return f"{match[0]} ; {marker}" if marker else match[0]

    for name in BUILDS:
        wheel(wheels / "pypi", name)
    if "dependencies" in project:
        project["dependencies"] = [bare(text) for text in project["dependencies"]]
    for group in (project.get("optional-dependencies", {}), data.get("dependency-groups", {})):
        for name, texts in group.items():
            group[name] = [bare(text) if isinstance(text, str) else text for text in texts]
    uv = data.setdefault("tool", {}).setdefault("uv", {})
    uv.pop("extra-index-url", None)
    if "dev-dependencies" in uv:
        uv["dev-dependencies"] = [bare(text) for text in uv["dev-dependencies"]]
    for entry in uv.setdefault("index", []):
        entry |= {"url": str(folder_of(wheels, entry)), "format": "flat"}
    if not any(entry.get("default") for entry in uv["index"]):
        uv["index"].append({"name": "the-default", "url": str(wheels / "pypi"), "format": "flat", "default": True})
    for value in uv.get("sources", {}).values():
        for entry in [value] if isinstance(value, dict) else value:
            if "url" in entry:
                local = local_version(entry["url"])
                entry["path"] = str(wheel(wheels / "files", "torch", local))
                del entry["url"]
    if project:
        uv["package"] = False
        project["requires-python"] = ">=3.11"
    return tomlkit.dumps(data)


def place(name: str, folder: Path) -> Path:
    """Write a layout, its root or its members; the folder to call uv in."""
    wheels = folder / "wheels"
    workspace = folder / "workspace"
    files = {"": workspace, ".member": workspace / "member"}
    if (LAYOUTS / f"{name}.root.toml").exists():
        files = {".root": workspace, "": workspace / "member"}
    for suffix, place in files.items():
        if (LAYOUTS / f"{name}{suffix}.toml").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "pyproject.toml").write_text(localized(tables(name + suffix), wheels), encoding="utf-8")
    return files[""]


Uv = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Uv:
    """Runs uv in a folder, with one cache for all, by which it knows the interpreter."""
    from uv import find_uv_bin

    cache = tmp_path_factory.mktemp("cache")

    def run(folder: Path, *args: str) -> "subprocess.CompletedProcess[str]":
        env = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "VIRTUAL_ENV"))}
        env |= {"UV_CACHE_DIR": str(cache), "UV_OFFLINE": "1", "UV_PYTHON": sys.executable}
        return subprocess.run(
            [find_uv_bin(), *args], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def installed(output: str) -> dict[str, str]:
    """Package -> local version, of what a dry run would install."""
    return dict(re.findall(r"^ \+ (\S+)==1(?:\+(\S+))?", output, re.MULTILINE))


def wanted(choice: Choice) -> dict[str, str]:
    local = choice.backend.name if choice.backend else {"pypi": "", "unknown": "other"}[choice.origin]
    return dict.fromkeys(choice.packages, local)


@pytest.mark.parametrize("name", [name for name, row in EXPECTED.items() if row["linux"]])
def test_uv_installs_what_a_choice_says(name: str, tmp_path: Path, uv: Uv) -> None:
    folder = place(name, tmp_path)
    locked = uv(folder, "lock")
    if name in REFUSED:
        assert "only applies to extra" in locked.stderr
        return
    assert locked.returncode == 0, locked.stderr
    project = layout(name)
    for choice in project.choices_for(LINUX):
        done = uv(folder, "sync", "--dry-run", "--locked", *selection(project, choice))
        assert done.returncode == 0, (str(choice.target), done.stderr)
        if name not in UNBOUND:
            found = installed(done.stderr)
            assert {package: found.get(package) for package in choice.packages} == wanted(choice), str(choice.target)


def test_uv_gives_an_alias_another_build_unless_it_is_completed(tmp_path: Path, uv: Uv) -> None:
    folder = place("recursive-extras", tmp_path)
    project = layout("recursive-extras")
    cu128 = next(choice for choice in project.choices_for(LINUX) if choice.name == "cu128")
    assert installed(uv(folder, "sync", "--dry-run", "--extra", "gpu").stderr)["torch"] == ""
    completed = selection(project, cu128, Asked([Target("extra", "gpu")]))
    found = installed(uv(folder, "sync", "--dry-run", "--extra", "gpu", *completed).stderr)
    assert (found["torch"], found["numpy"]) == ("cu128", "")


def test_uv_does_not_bind_a_source_to_an_extra_by_its_marker(tmp_path: Path, uv: Uv) -> None:
    folder = place("extras-documented", tmp_path)
    file = folder / "pyproject.toml"
    data = tomlkit.parse(file.read_text(encoding="utf-8")).unwrap()
    for entries in data["tool"]["uv"]["sources"].values():
        for entry, other in zip(entries, ("cu128", "cpu"), strict=True):
            entry["marker"] = f"extra == '{entry.pop('extra')}' and extra != '{other}'"
    file.write_text(tomlkit.dumps(data), encoding="utf-8")
    assert installed(uv(folder, "sync", "--dry-run", "--extra", "cpu").stderr)["torch"] == ""
