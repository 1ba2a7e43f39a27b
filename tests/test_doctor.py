"""`uvtorch torch doctor`: the machine, uv, the pins and the environment; what it prints, and its exit code."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.index.project import MACHINES, Project
from tests.test_audit import CHOICES, CPU_PIN, LINUX_WINDOWS, head, index
from tests.test_environment import install, torch_version

pytest_plugins = ["tests.index.fixtures"]

Empty = Callable[[str], Project]


def pinned(backend: str, *packages: str) -> str:
    names = packages or ("torch",)
    marker = "" if backend == "cpu" else f', marker = "{LINUX_WINDOWS}"'
    sources = "".join(f'{name} = {{ index = "pt"{marker} }}\n' for name in names)
    return head(*names) + f"[tool.uv.sources]\n{sources}" + index("pt", backend)


def doctor(site: Project, *options: str, code: int = 1, machine: str = "cpu-only", **env: str) -> dict[str, Any]:
    """The findings by code."""
    done = site.uvtorch("torch", "doctor", "--json", *options, machine=machine, **env).must(code)
    told = json.loads(done.out)
    assert (told["schema"], told["ok"]) == (1, code == 0)
    return {finding["code"]: finding for finding in told["findings"]}


@pytest.fixture
def nowhere(home: Any, tmp_path: Path) -> Project:
    """A directory without a project."""
    path = tmp_path / "nowhere"
    path.mkdir()
    return Project(home, path)


# Where there is little to look at


def test_without_a_project_the_machine_and_uv_are_looked_at(nowhere: Project) -> None:
    assert doctor(nowhere, code=0) == {}
    report = nowhere.uvtorch("torch", "doctor", machine="h200-580").must().out
    assert "NVIDIA H200 (9.0); driver 580.95.05" in report
    assert "none here" in report
    assert report.endswith("No problems found.\n")
    assert set(doctor(nowhere, machine="broken-mismatch")) == {"gpu-broken"}
    assert nowhere.state() == {}


def test_a_project_without_pytorch_is_well(project: Project) -> None:
    assert doctor(project, code=0) == {}
    before = project.state()
    assert doctor(project, "--fix", code=0) == {}
    assert project.state() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pyproject.toml", b"[project\n"),
        ("pyproject.toml", b"[project]\nname = 'a'\n[tool.uv]\nindex = 1\n"),
        ("pyproject.toml", b"\xff"),
        ("uv.lock", b"<<<<<<< HEAD\n"),
        ("uv.lock", b"\xff"),
    ],
)
def test_what_cannot_be_looked_at_is_exit_2(empty: Empty, name: str, content: bytes) -> None:
    site = empty(head("torch"))
    (site.path / name).write_bytes(content)
    done = site.uvtorch("torch", "doctor", "--json").must(2)
    assert done.err.startswith("error: ")
    assert done.out == ""


def test_a_broken_description_of_the_machine_is_exit_2(nowhere: Project) -> None:
    (nowhere.path / "machine.json").write_text("{")
    done = nowhere.uvtorch("torch", "doctor", UVTORCH_HARDWARE="machine.json").must(2)
    assert done.err.startswith("error: ")


# uv


def test_no_uv_is_a_finding(nowhere: Project, tmp_path: Path) -> None:
    (finding,) = doctor(nowhere, UVTORCH_UV=str(tmp_path / "no-uv")).values()
    assert (finding["code"], finding["severity"], finding["fix"]) == ("uv-missing", "error", None)


@pytest.mark.skipif(os.name != "posix", reason="a script as uv")
def test_a_uv_that_is_too_old_is_a_finding_that_says_how_to_update_it(nowhere: Project, tmp_path: Path) -> None:
    old = tmp_path / "uv"
    old.write_text("#!/bin/sh\necho 'uv 0.4.20 (abcdef 2024-10-08)'\n")
    old.chmod(0o755)
    (finding,) = doctor(nowhere, UVTORCH_UV=str(old)).values()
    assert finding["code"] == "uv-too-old"
    assert "0.4.20" in finding["message"]
    assert "`uv self update`" in finding["message"]


# The pins and the machine


@pytest.mark.parametrize(
    ("backend", "machine", "code", "severity", "said"),
    [
        ("cu130", "h100-535", "cannot-run-here", "error", "driver"),
        ("cu130", "v100-580", "cannot-run-here", "error", "V100"),
        ("cu126", "b200-590", "cannot-run-here", "error", "B200"),
        ("cu126", "cpu-only", "cannot-run-here", "warning", "NVIDIA GPU"),
        ("cu126", "mi300x-gfx942", "cannot-run-here", "warning", "NVIDIA GPU"),
        ("cpu", "h200-580", "gpu-idle", "warning", "cu130"),
    ],
)
def test_a_pin_that_does_not_suit_the_machine(
    empty: Empty, backend: str, machine: str, code: str, severity: str, said: str
) -> None:
    site = empty(pinned(backend))
    site.uv("lock").must()
    (finding,) = doctor(site, machine=machine).values()
    assert (finding["code"], finding["severity"]) == (code, severity)
    assert said in finding["message"]
    assert finding["fix"] == ["uvtorch", "torch", "use", "auto"]
    if machine not in ("b200-590", "v100-580"):
        site.uvtorch(*finding["fix"][1:], machine=machine).must()
        assert doctor(site, code=0, machine=machine) == {}


@pytest.mark.parametrize(
    ("backend", "machine"),
    [("cpu", "cpu-only"), ("cu126", "h100-535"), ("cu130", "h200-580"), ("cu126", "v100-535"), ("cpu", "macos-m3")],
)
def test_a_pin_that_suits_the_machine(empty: Empty, backend: str, machine: str) -> None:
    site = empty(pinned(backend))
    site.uv("lock").must()
    assert doctor(site, code=0, machine=machine) == {}


def test_a_nightly_build_for_the_cpu_leaves_no_gpu_idle_where_there_is_none(empty: Empty) -> None:
    assert "gpu-idle" not in doctor(empty(pinned("nightly/cpu")))


def test_pypis_build_is_judged_as_any_other(empty: Empty) -> None:
    site = empty(head("torch"))
    site.uv("lock").must()
    (finding,) = doctor(site, machine="h100-535").values()
    assert (finding["code"], finding["fix"]) == ("cannot-run-here", ["uvtorch", "torch", "use", "auto"])
    assert "PyPI" in finding["message"]
    assert doctor(site, code=0, machine="cpu-only") == {}
    assert doctor(site, code=0, machine="h200-580") == {}


def test_choices_of_which_none_fits(empty: Empty) -> None:
    site = empty(head() + CHOICES)
    site.uv("lock").must()
    (finding,) = doctor(site, machine="mi300x-gfx942").values()
    assert (finding["code"], finding["severity"]) == ("no-choice-fits", "warning")
    assert finding["fix"] is not None
    program, *command = finding["fix"]
    assert program == "uvtorch"
    site.uvtorch(*command, machine="mi300x-gfx942").must()
    assert doctor(site, code=0, machine="mi300x-gfx942") == {}
    assert doctor(site, code=0, machine="h200-580") == {}


# The environment


def put(site: Project, name: str, version: str, module: str) -> None:
    """Change what is installed behind uv's back."""
    folder = next((site.path / ".venv" / "lib").glob("python*/site-packages"))
    for entry in folder.glob(f"{name}-*.dist-info"):
        shutil.rmtree(entry)
    install(folder, name, version, module)


def test_an_environment_that_uv_made_is_well(empty: Empty) -> None:
    site = empty(pinned("cu126", "torch", "torchvision"))
    site.uv("sync").must()
    assert doctor(site, code=0, machine="h100-535") == {}
    report = site.uvtorch("torch", "doctor", machine="h100-535").must().out
    assert "torch 2.14.1+cu126 for cu126" in report


def test_another_build_than_the_lock_has(empty: Empty) -> None:
    site = empty(pinned("cu126"))
    site.uv("sync").must()
    put(site, "torch", "2.9.1", torch_version("2.9.1+cu128", "'12.8'"))
    (finding,) = doctor(site, machine="h100-535").values()
    assert (finding["code"], finding["fix"]) == ("installed-differs", ["uv", "sync"])
    for part in ("2.9.1", "cu128", "2.14.1+cu126"):
        assert part in finding["message"]
    site.uv(*finding["fix"][1:]).must()
    assert site.installed()["torch"] == "2.14.1+cu126"


def test_a_build_that_does_not_run_here(empty: Empty) -> None:
    site = empty(pinned("cu126"))
    site.uv("sync").must()
    put(site, "torch", "2.15.0", torch_version("2.15.0+cu132", "'13.2'"))
    found = doctor(site, machine="h100-535")
    assert set(found) == {"installed-differs", "installed-cannot-run"}
    assert "driver" in found["installed-cannot-run"]["message"]


def test_builds_of_two_backends_installed(empty: Empty) -> None:
    site = empty(head("torch", "torchvision") + CHOICES.replace('["torch"]', '["torch", "torchvision"]'))
    site.uv("sync").must()
    put(site, "torch", "2.15.0", torch_version("2.15.0+cpu"))
    put(site, "torchvision", "0.29.2", "__version__ = '0.29.2+cu132'\n")
    finding = doctor(site)["installed-mixed"]
    assert finding["fix"] == ["uvtorch", "sync", "--auto"]
    assert "torchvision 0.29.2 (cu132)" in finding["message"]


def test_an_installation_that_is_not_whole(empty: Empty) -> None:
    site = empty(pinned("cpu"))
    site.uv("sync").must()
    folder = next((site.path / ".venv" / "lib").glob("python*/site-packages"))
    shutil.rmtree(folder / "torch")
    finding = doctor(site)["installed-broken"]
    assert finding["fix"] == ["uv", "sync", "--reinstall-package", "torch"]
    site.uv(*finding["fix"][1:]).must()
    assert doctor(site, code=0) == {}


def test_uvs_other_place_for_the_environment_is_respected(empty: Empty) -> None:
    site = empty(pinned("cpu"))
    site.uv("sync", UV_PROJECT_ENVIRONMENT="elsewhere").must()
    assert "installed  no environment" in site.uvtorch("torch", "doctor").must().out
    report = site.uvtorch("torch", "doctor", UV_PROJECT_ENVIRONMENT="elsewhere").must().out
    assert "torch 2.15.0+cpu for cpu" in report


# Trying it


def test_a_trial_imports_what_is_installed(empty: Empty) -> None:
    site = empty(pinned("cu126"))
    site.uv("sync").must()
    folder = next((site.path / ".venv" / "lib").glob("python*/site-packages"))
    (folder / "torch" / "__init__.py").write_text("raise ImportError('libcudnn.so.9: version mismatch')\n")
    assert doctor(site, code=0, machine="h100-535") == {}
    finding = doctor(site, "--run", machine="h100-535")["torch-fails"]
    assert "libcudnn.so.9: version mismatch" in finding["message"]

    seen = "__version__ = '2.14.1+cu126'\nclass cuda: device_count = staticmethod(lambda: 0)\nclass backends: pass\n"
    (folder / "torch" / "__init__.py").write_text(seen)
    assert set(doctor(site, "--run", machine="h100-535")) == {"gpu-unseen"}
    (folder / "torch" / "__init__.py").write_text(
        seen.replace("0)", "1)") + "def ones(*_, device): raise RuntimeError('no kernel image')\n"
    )
    assert "cuda:0: RuntimeError: no kernel image" in doctor(site, "--run", machine="h100-535")["gpu-fails"]["message"]


def test_a_trial_without_an_environment_tries_nothing(empty: Empty) -> None:
    site = empty(pinned("cpu"))
    site.uv("lock").must()
    assert doctor(site, "--run", code=0) == {}


# What it prints


def test_the_report_says_what_why_and_how_it_is_mended(empty: Empty) -> None:
    site = empty(head("torch", "torchvision") + CPU_PIN + index("left", "cu126"))
    site.uv("lock").must()
    report = site.uvtorch("torch", "doctor").must(1).out
    assert "error [mixed-builds]\n  One environment gets builds of different backends: torch 2.15.0+cpu (cpu)" in report
    assert "warning [index-unused]\n" in report
    assert report.count("  fix: uvtorch torch doctor --fix\n") == 2
    assert report.endswith("2 problems found, 2 of which `uvtorch torch doctor --fix` fixes.\n")
    assert all(len(row) <= 100 for row in report.splitlines() if "http" not in row and "/" not in row)
    assert report.isascii()


def test_a_dry_run_shows_the_first_round(empty: Empty) -> None:
    site = empty(head("torch", "torchvision") + CPU_PIN)
    site.uv("lock").must()
    before = site.state()
    shown = site.uvtorch("torch", "doctor", "--fix", "--dry-run").must().out
    assert '+torchvision = [{ index = "pt" }]' in shown
    assert shown.endswith("$ uv lock --upgrade-package torchvision==0.29.2\n")
    assert site.state() == before


def test_uvs_global_options_are_carried_to_the_lock(empty: Empty, nowhere: Project) -> None:
    site = empty(head("torch", "torchvision") + CPU_PIN)
    site.uv("lock").must()
    done = nowhere.uvtorch("--project", str(site.path), "-q", "torch", "doctor", "--fix")
    assert (done.code, done.err) == (0, "")
    site.uv("lock", "--check").must()


def test_a_members_finding_in_the_root_is_not_mended_from_the_member(empty: Empty) -> None:
    site = empty('[tool.uv.workspace]\nmembers = ["member"]\n' + index("pt", "cpu", explicit=False))
    member = site.path / "member"
    member.mkdir()
    (member / "pyproject.toml").write_text(head("torch") + '[tool.uv.sources]\ntorch = { index = "pt" }\n')
    site.uv("lock").must()
    before = site.state()
    inside = Project(site.home, member)
    found = doctor(inside, "--fix")
    assert set(found) == {"index-not-explicit", "generic-from-pytorch-index"}
    assert "root" in found["index-not-explicit"]["message"]
    assert site.state() == before
    for finding in found.values():
        assert finding["fix"] == ["uvtorch", "--project", "..", "torch", "doctor", "--fix"]
    mended = inside.uvtorch(*finding["fix"][1:]).must().ours
    assert [row.split(": ")[1] for row in mended] == [f"fixed {code}" for code in found]
    assert doctor(site, "--fix", code=0) == {}
    assert doctor(inside, code=0) == {}


def test_every_code_is_documented() -> None:
    """In docs/doctor.md, for those who read --json."""
    root = Path(__file__).parents[1]
    code = "[a-z]+(?:-[a-z]+)+"
    sources = [*(root / "uvtorch" / "audit").glob("*.py"), root / "uvtorch" / "verbs" / "doctor.py"]
    used = {name for path in sources for name in re.findall(f'"({code})"', path.read_text(encoding="utf-8"))}
    rows = [row for row in (root / "docs" / "doctor.md").read_text(encoding="utf-8").splitlines() if row[:3] == "| `"]
    assert {name for row in rows for name in re.findall(f"`({code})`", row.split("|")[1])} == used - {"requires-python"}


def test_every_described_machine_can_be_looked_at(
    nowhere: Project, empty: Empty, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: 80 machines, no traceback on any."""
    from uvtorch import hardware
    from uvtorch.argv import parse
    from uvtorch.output import Output
    from uvtorch.session import Session
    from uvtorch.verbs.doctor import diagnose, examine, report

    site = empty(pinned("cu126"))
    site.uv("lock").must()
    env = {**site.environment, "UVTORCH_UV": str(nowhere.path / "none")}
    line = parse(["--directory", str(site.path), "torch", "doctor"])
    case = examine(Session(line, {**env, "UVTORCH_HARDWARE": str(MACHINES / "cpu-only.json")}))
    for path in sorted(MACHINES.glob("*.json")):
        here = case._replace(machine=hardware.read_description(str(path)))
        findings = diagnose(here, env)
        assert "uv-missing" in {finding.code for finding in findings}
        report(Output(line, env), here, findings)
        assert " found" in capsys.readouterr().out
