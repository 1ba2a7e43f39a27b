"""Doctor tells the truth: no false alarm in projects that people have, and each remedy works when it is typed."""

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.index.contents import LINUX, MACOS
from tests.index.project import Project
from tests.index.wheels import Wheel
from tests.test_audit import CHOICES, CPU_PIN, LINUX_WINDOWS, audit, head, index
from uvtorch import catalog
from uvtorch.audit import Finding, Package, read_export, selections
from uvtorch.machine import Platform
from uvtorch.project import Environment, read
from uvtorch.project.lock import read_lock
from uvtorch.project.pyproject import PyProject

pytest_plugins = ["tests.index.fixtures"]

Empty = Callable[[str], Project]

ON_LINUX = "environments = [\"sys_platform == 'linux' and platform_machine == 'x86_64'\"]\n"


def doctor(site: Project, *options: str, machine: str = "cpu-only", **env: str) -> dict[str, Any]:
    """The findings by code."""
    done = site.uvtorch("torch", "doctor", "--json", *options, machine=machine, **env)
    told = json.loads(done.out)
    assert done.code == (0 if told["ok"] else 1)
    return {finding["code"]: finding for finding in told["findings"]}


def typed(site: Project, command: list[str], machine: str = "cpu-only") -> None:
    """Type a remedy where it was printed."""
    program, *words = command
    assert program in ("uv", "uvtorch")
    (site.uv(*words) if program == "uv" else site.uvtorch(*words, machine=machine)).must()


# Indexes and folders


@pytest.mark.parametrize("listed", ['find-links = ["wheels"]\n', ""], ids=["find-links", "flat index"])
def test_wheels_in_a_folder_are_wheels(empty: Empty, listed: str) -> None:
    tag = f"cp3{sys.version_info.minor}"
    torch = Wheel("torch", "2.9.1+cu126", f"{tag}-{tag}-{LINUX}")
    python = f">=3.{sys.version_info.minor},<3.{sys.version_info.minor + 1}"
    text = head("torch==2.9.1").replace(">=3.11", python) + f"[tool.uv]\n{ON_LINUX}{listed}"
    if not listed:
        text += '[tool.uv.sources]\ntorch = { index = "house" }\n[[tool.uv.index]]\nname = "house"\n'
        text += 'url = "wheels"\nformat = "flat"\nexplicit = true\n'
    site = empty(text)
    (site.path / "wheels").mkdir()
    (site.path / "wheels" / torch.filename).write_bytes(torch.content)
    site.uv("lock").must()
    assert "torch-2.9.1+cu126" in (site.path / "uv.lock").read_text()
    assert doctor(site, machine="h100-535") == {}


@pytest.mark.parametrize("url", ["https://kernels.example.com/whl/cu128", "https://geometric.example.com/whl/cu128"])
def test_what_another_host_serves_is_no_stale_copy(empty: Empty, url: str) -> None:
    kernels = f'[[tool.uv.index]]\nname = "kernels"\nurl = "{url}"\n'
    site = empty(head("torch", "numpy") + CPU_PIN)
    site.uv("lock").must()
    with open(site.path / "uv.lock", "a", encoding="utf-8") as lock:
        lock.write(
            f'\n[[package]]\nname = "jit-cache"\nversion = "0.5.3+cu128"\nsource = {{ registry = "{url}" }}\n'
            f'wheels = [\n    {{ url = "{url}/jit_cache-0.5.3%2Bcu128-cp39-abi3-{LINUX}.whl", '
            f'hash = "sha256:{"0" * 64}" }},\n]\n'
        )
    assert doctor(site) == {}
    project = read(tomllib.loads(site.text + kernels))
    assert [one.code for one in audit(project, None, catalog.load()) if "kernels" in one.message] == []


def test_builds_of_another_host_are_judged_neither_on_the_machine_nor_as_mixed(empty: Empty) -> None:
    """A Jetson's index ends in cu126, and is not PyTorch's cu126."""
    pin = '[tool.uv.sources]\ntorch = { index = "jetson" }\n' + index("jetson", "cu126")
    text = (head("torch", "torchtext") + pin).replace("BASE", "https://example.com/jp6")
    lock = made_up(("torch", "2.9.1", "https://example.com/jp6/cu126"), ("torchtext", "0.18.0", ""))
    assert judged(text, lock) == []
    assert set(doctor(empty(text))) == {"lock-missing"}


# Exports made up: (name, version, index, marker)


def made_up(*rows: tuple[str, ...]) -> tuple[Package, ...]:
    default = "https://mirror.example.com/simple"
    packages = []
    for name, version, url, *marker in rows:
        wheels = tuple(
            f"{name}-{version}-cp312-cp312-{tag}.whl" for tag in (LINUX, "win_amd64", "manylinux_2_28_aarch64")
        )
        packages.append(Package(name, version, url or default, marker[0] if marker else None, wheels, False))
    return tuple(packages)


def judged(text: str, export: tuple[Package, ...]) -> list[Finding]:
    """What the audit says of a lock that has what is exported."""
    rows = (
        f'name = "{one.name}"\nversion = "{one.version}"\nsource = {{ registry = "{one.url}" }}\n' for one in export
    )
    lock = read_lock("\n[[package]]\n".join(["version = 1\n", *rows]))
    project = read(tomllib.loads(text.replace("BASE", "https://download.pytorch.org/whl")))
    return list(audit(project, lock, catalog.load(), export=export))


CU126 = "https://download.pytorch.org/whl/cu126"
PIN = f'[tool.uv.sources]\ntorch = {{ index = "pt", marker = "{LINUX_WINDOWS}" }}\n' + index("pt", "cu126")


@pytest.mark.parametrize(
    ("name", "version", "codes"),
    [
        ("torchtext", "0.18.0", []),
        ("torchcodec", "0.9.1", []),
        ("torchcodec", "0.12.0", []),
        ("torchcodec", "0.13.0", []),  # not known
        ("torchcodec", "0.11.0", ["mixed-builds"]),
        ("torchvision", "0.24.1", ["mixed-builds"]),
    ],
)
def test_what_has_no_cuda_code_goes_with_every_backend(name: str, version: str, codes: list[str]) -> None:
    found = judged(head("torch", name) + PIN, made_up(("torch", "2.9.1+cu126", CU126), (name, version, "")))
    assert [finding.code for finding in found] == codes


def test_a_platform_that_pytorch_has_no_wheels_for_is_named_like_others() -> None:
    export = made_up(("torch", "2.9.1+cu126", CU126), ("torchvision", "0.24.1+cpu", CU126.replace("cu126", "cpu")))
    project = read(
        tomllib.loads((head("torch", "torchvision") + PIN).replace("BASE", "https://download.pytorch.org/whl"))
    )
    found = audit(
        project, read_lock("version = 1\n"), catalog.load(), Environment(Platform("linux", "riscv64")), export
    )
    assert "Linux riscv64" in {one.code: one.message for one in found}["mixed-builds"]


def test_cuda_code_beside_a_backend_that_its_package_is_not_built_for_is_bounded_away() -> None:
    """torchcodec 0.17 on the default index beside torch for ROCm: 0.13 and older ones there are for the CPU."""
    rocm = "https://download.pytorch.org/whl/rocm7.2"
    pinned = head("torch", "torchcodec") + PIN.replace("cu126", "rocm7.2")
    lock = made_up(("torch", "2.14.1+rocm7.2", rocm), ("torchcodec", "0.17.0", ""))
    (found,) = [one for one in judged(pinned, lock) if one.code != "companion-missing"]
    assert found.code == "mixed-builds"
    assert found.edit
    file = PyProject(pinned.encode(), "pyproject.toml")
    found.edit(file)
    assert found.upgrade == ("torchcodec",)
    assert b'"torchcodec<0.14' in file.render()
    older = made_up(("torch", "2.14.1+rocm7.2", rocm), ("torchcodec", "0.13.0", ""))
    assert [one.code for one in judged(pinned, older)] == ["companion-missing"]


def test_what_no_index_of_the_backend_has_is_left_to_the_default_index() -> None:
    text = head("torch", "torchtext") + PIN + index("other", "cpu", explicit=False)
    text = text.replace("BASE", "https://download.pytorch.org/whl")
    cpu = CU126.replace("cu126", "cpu")
    found = judged(text, made_up(("torch", "2.9.1+cu126", CU126), ("torchtext", "0.18.0+cpu", cpu)))
    assert [one.code for one in found] == ["index-not-explicit", "mixed-builds"]
    file = PyProject(text.encode(), "pyproject.toml")
    for one in reversed(found):
        if one.edit:
            one.edit(file)
    assert file.render().decode() == text + "explicit = true\n"


def test_a_wheel_that_lacks_for_one_python_is_not_told_for_the_platform() -> None:
    cpu = "https://download.pytorch.org/whl/cpu"
    wheel = f"torch-2.2.2-cp311-cp311-{LINUX}.whl"
    old = Package("torch", "2.2.2+cpu", cpu, "python_version < '3.12'", (wheel,), False)
    new = made_up(("torch", "2.9.1+cpu", cpu, "python_version >= '3.12'"))[0]
    new = new._replace(wheels=(*new.wheels, f"torch-2.9.1-cp312-none-{MACOS}.whl"))
    assert judged(head("torch") + CPU_PIN, (old, new)) == []
    never = new._replace(wheels=("torch-2.9.1-cp312-none-freebsd_14_amd64.whl",))
    assert [one.code for one in judged(head("torch") + CPU_PIN, (never,))] == ["no-wheels"]


def test_an_export_is_read_without_what_nobody_asked_for() -> None:
    text = (
        'lock-version = "1.0"\nrequires-python = ">=3.11"\n\n[[packages]]\nname = "numpy"\nthis is = not read\n'
        '\n[[packages]]\nname = "torch"\nversion = "2.9.1"\nmarker = "sys_platform == \'linux\'"\n'
        'index = "https://example.com"\nwheels = [{ path = "wheels/torch-2.9.1-cp312-cp312-win_amd64.whl" }]\n'
    )
    (torch,) = read_export(text, lambda name: name == "torch")
    assert (torch.version, torch.marker, torch.platforms) == ("2.9.1", "sys_platform == 'linux'", {"windows_amd64"})


# Selections


@pytest.mark.parametrize("kind", ["extra", "group"])
def test_a_conflict_with_the_project_itself_is_no_mixed_build(empty: Empty, kind: str) -> None:
    table = "project.optional-dependencies" if kind == "extra" else "dependency-groups"
    text = head("torch") + f'[{table}]\nquantized = ["numpy"]\n'
    text += f'[tool.uv]\nconflicts = [[{{ package = "demo" }}, {{ {kind} = "quantized" }}]]\n'
    site = empty(text + PIN)
    site.uv("lock").must()
    assert "mixed-builds" not in doctor(site, machine="h100-535")


def test_an_alias_of_a_choice_is_left_out_with_it() -> None:
    text = head() + CHOICES.replace(
        'cu130 = ["torch"]\n', 'cu130 = ["torch"]\ngpu = ["demo[cu130]"]\ndocs = ["numpy"]\n'
    )
    found = {label: " ".join(options) for label, options in selections(read(tomllib.loads(text))).items()}
    assert found == {
        "": "--all-extras --all-groups --no-extra cpu --no-extra cu130 --no-extra gpu",
        "--extra cpu": "--all-extras --all-groups --no-extra cu130 --no-extra gpu",
        "--extra cu130": "--all-extras --all-groups --no-extra cpu --no-extra gpu",
    }


def test_choices_without_conflicts_are_told_and_declared(empty: Empty) -> None:
    site = empty(
        head()
        + CHOICES.replace("[tool.uv]\n", "").replace('conflicts = [[{ extra = "cpu" }, { extra = "cu130" }]]\n', "")
    )
    assert site.uv("lock").code != 0
    found = doctor(site)
    assert set(found) == {"conflicts-missing"}
    typed(site, found["conflicts-missing"]["fix"])
    assert doctor(site) == {}
    site.uv("lock", "--check").must()


# The lock


def test_a_missing_lock_is_told_where_pytorch_is_concerned(empty: Empty) -> None:
    assert doctor(empty(head("numpy"))) == {}
    site = empty(head("torch") + CPU_PIN)
    (finding,) = doctor(site).values()
    assert (finding["code"], finding["fix"]) == ("lock-missing", ["uvtorch", "lock"])
    typed(site, finding["fix"])
    assert doctor(site) == {}
    unpinned = empty(head("torch"))  # what a plain lock holds needs another driver
    (unpinned.path / "uv.lock").unlink()
    (finding,) = doctor(unpinned, machine="h100-535").values()
    assert (finding["code"], finding["fix"]) == ("lock-missing", ["uvtorch", "torch", "use", "auto"])
    typed(unpinned, finding["fix"], machine="h100-535")
    assert doctor(unpinned, machine="h100-535") == {}


def test_a_lock_that_is_out_of_date_is_told(empty: Empty) -> None:
    site = empty(head("torch") + CPU_PIN)
    site.uv("lock").must()
    site.write(site.file.read_text().replace('["torch"]', '["torch<2.15", "numpy"]'))
    (finding,) = doctor(site).values()
    assert (finding["code"], finding["fix"]) == ("lock-outdated", ["uvtorch", "lock"])
    typed(site, finding["fix"])
    assert doctor(site) == {}


@pytest.mark.parametrize("wanted", ["torch==2.15.0", "torch>=2.15", "torch>2.14.1,<3"])
def test_a_torch_that_the_index_does_not_have_is_told(empty: Empty, wanted: str) -> None:
    site = empty(head("torch==2.14.1") + PIN)
    site.uv("lock").must()
    site.write(site.file.read_text().replace("torch==2.14.1", wanted))
    (finding,) = doctor(site, machine="h200-580").values()
    assert (finding["code"], finding["fix"]) == ("release-missing", ["uvtorch", "torch", "use", "auto"])
    assert wanted in finding["message"]
    typed(site, finding["fix"], machine="h200-580")
    assert doctor(site, machine="h200-580") == {}


def test_torchaudio_beside_an_older_torch_is_told(empty: Empty) -> None:
    sources = '[tool.uv.sources]\ntorch = { index = "pt" }\ntorchaudio = { index = "pt" }\n'
    site = empty(head("torch==2.9.1", "torchaudio") + sources + index("pt", "cpu"))
    site.uv("lock").must()
    found = doctor(site)
    assert set(found) == {"torchaudio-mismatch"}
    site.uv("sync").must()
    assert set(doctor(site)) == {"torchaudio-mismatch", "installed-torchaudio"}
    typed(site, found["torchaudio-mismatch"]["fix"])
    assert doctor(site) == {}
    assert site.installed()["torchaudio"] == "2.9.1+cpu"


def test_an_installed_build_that_leaves_the_gpu_idle_is_told(empty: Empty) -> None:
    site = empty(head() + CHOICES)
    site.uv("sync", "--extra", "cpu").must()
    assert doctor(site) == {}
    found = doctor(site, machine="h200-580")
    assert set(found) == {"installed-idle"}
    typed(site, found["installed-idle"]["fix"], machine="h200-580")
    assert doctor(site, machine="h200-580") == {}
    assert site.installed()["torch"] == "2.15.0+cu130"


# Elsewhere than in the directory of the one project


def workspace(empty: Empty, fault: str = "") -> tuple[Project, Project]:
    """A virtual root, and inside it a member with a pin; `fault` is added to the member's file."""
    site = empty('[tool.uv.workspace]\nmembers = ["member"]\n')
    member = site.path / "member"
    member.mkdir()
    inside = Project(site.home, member)
    inside.write(head("torch") + CPU_PIN + fault)
    site.uv("lock").must()
    return site, inside


@pytest.mark.parametrize("at", [0, 1], ids=["at the root", "in the member"])
def test_a_members_fault_is_told_and_fixed(empty: Empty, at: int) -> None:
    sites = workspace(empty, index("left", "cu126"))
    found = doctor(sites[at])
    assert set(found) == {"index-unused"}
    typed(sites[at], found["index-unused"]["fix"])
    assert [doctor(site) for site in sites] == [{}, {}]


def test_choices_of_a_member_are_seen_from_the_root(empty: Empty) -> None:
    site = empty('[tool.uv.workspace]\nmembers = ["member"]\n')
    (site.path / "member").mkdir()
    inside = Project(site.home, site.path / "member")
    inside.write(head("torchvision") + CHOICES)
    site.uv("lock").must()
    assert set(doctor(site)) == set(doctor(inside)) == {"mixed-builds"}
    inside.write(head() + CHOICES)
    site.uv("lock").must()
    assert doctor(site) == doctor(inside) == {}
    typed(inside, ["uvtorch", "sync", "--auto"])
    assert doctor(inside) == {}


def test_the_lock_of_a_member_is_the_workspaces(empty: Empty) -> None:
    root, inside = workspace(empty)
    (root.path / "uv.lock").unlink()
    assert set(doctor(inside)) == {"lock-missing"}
    typed(inside, doctor(inside)["lock-missing"]["fix"])
    assert (root.path / "uv.lock").exists()
    assert doctor(inside) == {}
    inside.write(inside.file.read_text().replace('["torch"]', '["torch", "numpy"]'))
    assert set(doctor(root)) == set(doctor(inside)) == {"lock-outdated"}


def test_an_index_that_a_variable_names_is_told_once_for_a_workspace(empty: Empty) -> None:
    root, _ = workspace(empty)
    done = root.uvtorch("torch", "doctor", "--json", UV_INDEX=f"{root.home.server.base}/cpu").must(1)
    assert [one["code"] for one in json.loads(done.out)["findings"]] == ["index-outside"]


def test_a_remedy_names_the_project_that_was_named(empty: Empty, tmp_path: Path) -> None:
    site = empty(head("torch") + CPU_PIN + index("left", "cu126"))
    site.uv("lock").must()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    there = Project(site.home, elsewhere)
    done = there.uvtorch("--project", str(site.path), "torch", "doctor", "--json").must(1)
    (finding,) = json.loads(done.out)["findings"]
    typed(there, finding["fix"])
    assert doctor(site) == {}


SCRIPT = (
    '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["torch==2.14.1"]\n# [tool.uv.sources]\n'
    '# torch = { index = "pt" }\n# [[tool.uv.index]]\n# name = "pt"\n# url = "BASE/BACKEND"\n# explicit = true\n# ///\n'
    "print('ran')\n"
)


def script(site: Project, backend: str, more: str = "") -> Path:
    path = site.path / "run.py"
    text = SCRIPT.replace("BASE", site.home.server.base).replace("BACKEND", backend)
    path.write_text(text.replace("# ///\nprint", f"{more}# ///\nprint"))
    return path


def test_a_script_is_looked_at(empty: Empty) -> None:
    site = empty(head("numpy"))
    script(site, "cpu")
    assert doctor(site, "--script", "run.py") == {}
    (finding,) = doctor(site, "--script", "run.py", machine="h200-580").values()
    assert finding["code"] == "gpu-idle"
    assert finding["fix"] == ["uvtorch", "torch", "use", "auto", "--script", "run.py"]
    site.uv("lock", "--script", "run.py").must()
    assert doctor(site, "--script", "run.py") == {}
    site.uv("run", "--script", "run.py").must()
    report = site.uvtorch("torch", "doctor", "--script", "run.py").must().out
    assert "torch 2.14.1+cpu for cpu" in report or "torch 2.14.1+cpu" in report


def test_a_scripts_fault_is_fixed_in_the_script(empty: Empty) -> None:
    site = empty(head("numpy"))
    path = script(site, "cpu", '# [[tool.uv.index]]\n# name = "left"\n# url = "BASE/cu126"\n# explicit = true\n')
    (finding,) = doctor(site, "--script", "run.py").values()
    assert finding["fix"] == ["uvtorch", "torch", "doctor", "--fix", "--script", "run.py"]
    typed(site, finding["fix"])
    assert "left" not in path.read_text()
    assert not (site.path / "run.py.lock").exists()
    assert doctor(site, "--script", "run.py") == {}
    done = site.uvtorch("torch", "doctor", "--script", "missing.py").must(2)
    assert done.err.startswith("error: ")


def test_the_text_says_the_remedy_as_a_shell_reads_it(empty: Empty) -> None:
    sources = '[tool.uv.sources]\ntorch = { index = "pt" }\ntorchaudio = { index = "pt" }\n'
    site = empty(head("torch==2.9.1", "torchaudio") + sources + index("pt", "cpu"))
    site.uv("lock").must()
    report = site.uvtorch("torch", "doctor").must(1).out
    assert "\n  fix: uvtorch add 'torchaudio<2.11'\n" in report
    assert "mend" not in report
