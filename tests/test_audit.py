"""The audit: each fault is found in what the real uv locks, `doctor --fix` fixes it where it can, and then it is gone.

Every case is a project that people really write. After `--fix`, plain uv must be content with the result too.
"""

import json
import tomllib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests import edits as edit
from tests.index.project import Project as Site
from tests.test_choices import EXPECTED, LAYOUTS, layout, tables
from uvtorch import catalog
from uvtorch.audit import FIX, Case, Finding, Package, config, lock, read_export, selections
from uvtorch.machine import Machine, Platform
from uvtorch.project import Environment, Project, Target, read
from uvtorch.project.lock import Lock, read_lock
from uvtorch.requirement import holds

pytest_plugins = ["tests.index.fixtures"]

Empty = Callable[[str], Site]

LINUX_WINDOWS = "sys_platform == 'linux' or sys_platform == 'win32'"
LINUX_X86_64 = "sys_platform == 'linux' and platform_machine == 'x86_64'"


def head(*requirements: str) -> str:
    listed = ", ".join(f'"{requirement}"' for requirement in requirements)
    return f'[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = [{listed}]\n'


def index(name: str, backend: str, explicit: bool = True) -> str:
    return f'[[tool.uv.index]]\nname = "{name}"\nurl = "BASE/{backend}"\n' + ("explicit = true\n" if explicit else "")


def findings(site: Site, *options: str, code: int = 1, machine: str = "cpu-only") -> list[dict[str, Any]]:
    """What doctor says, without what concerns this machine alone."""
    done = site.uvtorch("torch", "doctor", "--json", *options, machine=machine).must(code)
    told = json.loads(done.out)
    assert set(told) == {"schema", "ok", "findings"}
    assert told["ok"] == (not told["findings"]) == (code == 0)
    for finding in told["findings"]:
        assert set(finding) == {"code", "severity", "message", "fix"}
        assert finding["severity"] in ("error", "warning")
        assert finding["fix"] is None or all(isinstance(word, str) for word in finding["fix"])
    return list(told["findings"])


HERE = Environment(Platform("linux", "x86_64"))


def audit(
    project: Project,
    locked: Lock | None,
    known: catalog.Catalog,
    here: Environment = HERE,
    export: tuple[Package, ...] = (),
) -> tuple[Finding, ...]:
    """What the audit says without looking at a machine; `export` is what uv exports for any selection."""
    exports = dict.fromkeys(selections(project), export)
    case = Case(Machine(here.platform), known, project, locked, exports, here.python)
    return (*config.check(case), *(lock.check(case, locked) if locked else ()))


def codes(found: list[dict[str, Any]]) -> set[str]:
    return {finding["code"] for finding in found}


def machine_for(text: str) -> str:
    """A machine of tests/machines that runs every GPU build this project names; several: by the first."""
    machines = {"cu126": "h100-535", "cu130": "h200-580", "rocm": "mi300x-gfx942", "xpu": "arc-b580"}
    if "[project.optional-dependencies]" in text or "[dependency-groups]\ncpu" in text:
        return "cpu-only"
    return next((name for backend, name in machines.items() if f"BASE/{backend}" in text), "cpu-only")


class Fault(NamedTuple):
    """A project with a fault."""

    text: str
    codes: set[str]
    """What the audit says before `--fix`."""
    relocked: str = ""
    """Appended after locking: what the lock does not know of."""
    backend: str | None = None
    """After `--fix`: the backend of every PyTorch package where the project has one."""

    @property
    def machine(self) -> str:
        """One that the project's pins fit, so that only the project is to blame."""
        return machine_for(self.text)


CPU_PIN = '[tool.uv.sources]\ntorch = { index = "pt" }\n' + index("pt", "cpu")
CHOICES = (
    '[project.optional-dependencies]\ncpu = ["torch"]\ncu130 = ["torch"]\n'
    '[tool.uv]\nconflicts = [[{ extra = "cpu" }, { extra = "cu130" }]]\n'
    '[tool.uv.sources]\ntorch = [{ index = "cpu", extra = "cpu" }, '
    f'{{ index = "cu130", extra = "cu130", marker = "{LINUX_WINDOWS}" }}]\n'
    + index("cpu", "cpu")
    + index("cu130", "cu130")
)

MENDED: dict[str, Fault] = {
    "mixed: torchvision without a source": Fault(
        head("torch", "torchvision")
        + f'[tool.uv.sources]\ntorch = {{ index = "pt", marker = "{LINUX_WINDOWS}" }}\n'
        + index("pt", "cu126"),
        {"mixed-builds"},
        backend="cu126",
    ),
    "mixed: torchvision that another package brings": Fault(
        head("torch", "timm") + CPU_PIN, {"mixed-builds"}, backend="cpu"
    ),
    "mixed: torchvision pinned and torch forgotten": Fault(
        head("torchvision") + '[tool.uv.sources]\ntorchvision = { index = "pt" }\n' + index("pt", "cpu"),
        {"mixed-builds"},
        backend="cpu",
    ),
    "mixed: torchvision added beside the choices": Fault(head("torchvision") + CHOICES, {"mixed-builds"}),
    "mixed: torchvision with a source, brought by another package": Fault(
        head("torch", "timm")
        + '[tool.uv.sources]\ntorch = { index = "pt" }\ntorchvision = { index = "pt" }\n'
        + index("pt", "cpu"),
        {"mixed-builds"},
        backend="cpu",
    ),
    "mixed: torchvision pinned after locking": Fault(
        head("torch", "torchvision") + CPU_PIN,
        {"mixed-builds"},
        relocked="torchvision",
        backend="cpu",
    ),
    "an index that is not explicit": Fault(
        head("torch", "torchvision")
        + '[tool.uv.sources]\ntorch = { index = "pt" }\ntorchvision = { index = "pt" }\n'
        + index("pt", "cpu", explicit=False),
        {"index-not-explicit", "generic-from-pytorch-index"},
        backend="cpu",
    ),
    "an index without a source, not explicit": Fault(
        head("torch") + index("pt", "cpu", explicit=False),
        {"index-not-explicit", "generic-from-pytorch-index"},
        backend="cpu",
    ),
    "an index without a name": Fault(
        head("torch") + '[[tool.uv.index]]\nurl = "BASE/cpu"\n',
        {"index-not-explicit", "generic-from-pytorch-index"},
        backend="cpu",
    ),
    "explicit now, and the lock as it was": Fault(
        head("torch") + '[tool.uv.sources]\ntorch = { index = "pt" }\n' + index("pt", "cpu", explicit=False),
        {"generic-from-pytorch-index"},
        relocked="explicit = true\n",
        backend="cpu",
    ),
    "torch that another package brings": Fault(
        head("timm")
        + '[tool.uv.sources]\ntorch = { index = "pt" }\ntorchvision = { index = "pt" }\n'
        + index("pt", "cpu"),
        {"not-anchored"},
        backend="cpu",
    ),
    "torch that another package brings beside the choices": Fault(
        head("timm") + CHOICES.replace('["torch"]', '["torchaudio"]').replace("torch = [", "torchaudio = ["),
        {"mixed-builds"},
    ),
    "a source that the lock does not know of": Fault(
        head("torch") + index("pt", "cpu"),
        {"lock-outdated"},
        relocked='[tool.uv.sources]\ntorch = { index = "pt" }\n',
        backend="cpu",
    ),
    "an index twice by URL, open once": Fault(
        head("torch") + CPU_PIN + index("other", "cpu", explicit=False),
        {"index-not-explicit", "generic-from-pytorch-index"},
        backend="cpu",
    ),
    "an index that a removed package left": Fault(
        head("torch") + CPU_PIN + index("left", "cu118"), {"index-unused"}, backend="cpu"
    ),
}


@pytest.mark.parametrize("fault", MENDED.values(), ids=MENDED)
def test_a_fault_is_found_and_mended_and_then_gone(empty: Empty, fault: Fault) -> None:
    site = empty(fault.text)
    site.uv("lock").must()
    if fault.relocked:
        text = site.file.read_text()
        if fault.relocked.startswith("explicit"):
            site.append(fault.relocked)
        elif fault.relocked == "torchvision":
            site.write(text.replace("[tool.uv.sources]", '[tool.uv.sources]\ntorchvision = { index = "pt" }'))
        else:
            site.write(text + fault.relocked)
    found = findings(site, machine=fault.machine)
    assert codes(found) - {"cannot-run-here"} == fault.codes  # PyPI's build, where the fault lets it in
    assert any(finding["fix"] == list(FIX) for finding in found)

    assert findings(site, "--fix", code=0, machine=fault.machine) == []
    if fault.backend:
        site.check(fault.backend)
    else:
        site.uv("lock", "--check").must()


def test_choices_mended_have_one_build_each(empty: Empty) -> None:
    site = empty(MENDED["mixed: torchvision added beside the choices"].text)
    site.uv("lock").must()
    preview = site.state()
    site.uvtorch("torch", "doctor", "--fix", "--dry-run").must()
    assert site.state() == preview
    findings(site, "--fix", code=0)
    after = site.state()
    assert findings(site, "--fix", code=0) == []
    assert site.state() == after
    for extra, wanted in (("cpu", "+cpu"), ("cu130", "+cu130")):
        site.uv("sync", "--locked", "--extra", extra).must()
        assert {version[-len(wanted) :] for name, version in site.installed().items() if name.startswith("torch")} == {
            wanted
        }


def test_what_a_non_explicit_index_gave_moves_to_the_default_index(empty: Empty) -> None:
    site = empty(MENDED["an index that is not explicit"].text)
    site.uv("lock").must()
    assert site.locked()["numpy"] == {("1.26.3", "whl/cpu")}
    found = {finding["code"]: finding for finding in findings(site)}
    assert "numpy 1.26.3" in found["generic-from-pytorch-index"]["message"]
    findings(site, "--fix", code=0)
    assert site.locked()["numpy"] == {("2.3.5", "simple")}
    assert site.data["tool"]["uv"]["index"] == [
        {"name": "pt", "url": "https://download.pytorch.org/whl/cpu", "explicit": True}
    ]


def test_a_fix_that_uv_cannot_lock_leaves_everything_as_it_was(empty: Empty) -> None:
    site = empty(head("torch==99") + CPU_PIN + index("left", "cu126"))
    before = site.state()
    done = site.uvtorch("torch", "doctor", "--fix")
    assert done.code == 1
    assert site.state() == before
    assert "No solution found" in done.err


def test_mending_keeps_the_releases_that_are_locked(empty: Empty) -> None:
    site = empty(MENDED["mixed: torchvision that another package brings"].text)
    site.uv("lock", "--upgrade-package", "torch==2.9.1").must()
    assert {version for version, _ in site.locked()["torch"]} == {"2.9.1", "2.9.1+cpu"}
    findings(site, "--fix", code=0)
    assert {version for version, _ in site.locked()["torch"]} == {"2.9.1", "2.9.1+cpu"}
    assert {version for version, _ in site.locked()["torchvision"]} == {"0.24.1", "0.24.1+cpu"}


# Faults that take a person


REFUSED = {
    "two indexes of one name": (CPU_PIN + index("pt", "cu126"), "duplicate index name `pt`"),
    "an index that nobody defines": ('[tool.uv.sources]\ntorch = { index = "pt" }\n', "undeclared index: `pt`"),
    "a source for an extra without the package": (
        '[project.optional-dependencies]\ncpu = ["numpy"]\n'
        '[tool.uv.sources]\ntorch = { index = "pt", extra = "cpu" }\n' + index("pt", "cpu"),
        "only applies to extra `cpu`",
    ),
}


@pytest.mark.parametrize(("more", "said"), REFUSED.values(), ids=REFUSED)
def test_what_uv_refuses_is_told_in_uvs_words(empty: Empty, more: str, said: str) -> None:
    site = empty(head("torch") + more)
    before = site.state()
    (finding,) = findings(site, "--fix")
    assert (finding["code"], finding["fix"]) == ("cannot-lock", None)
    assert said in finding["message"]
    assert site.state() == before


def test_what_uv_refuses_is_told_beside_a_lock_too(empty: Empty) -> None:
    site = empty(head("torch"))
    site.uv("lock").must()
    site.append('[tool.uv.sources]\ntorch = { index = "pt" }\n')
    assert codes(findings(site)) == {"cannot-lock"}


TYPED = {
    "ROCm without its Triton": (
        "companion-missing",
        head("torch")
        + f'[tool.uv.sources]\ntorch = {{ index = "pt", marker = "{LINUX_X86_64}" }}\n'
        + index("pt", "rocm7.2"),
    ),
    "a marker that is never true": (
        "marker-never-true",
        head("torch")
        + '[tool.uv.sources]\ntorch = { index = "pt", marker = "sys_platform == \'Linux\'" }\n'
        + index("pt", "cu126"),
    ),
}


def test_a_choice_without_its_triton_is_for_a_person() -> None:
    text = (
        head()
        + '[project.optional-dependencies]\ncpu = ["torch"]\nxpu = ["torch"]\n'
        + '[tool.uv]\nconflicts = [[{ extra = "cpu" }, { extra = "xpu" }]]\n[tool.uv.sources]\n'
        + 'torch = [{ index = "cpu", extra = "cpu" }, '
        + f'{{ index = "xpu", extra = "xpu", marker = "({LINUX_X86_64}) or sys_platform == \'win32\'" }}]\n'
        + index("cpu", "cpu")
        + index("xpu", "xpu")
    )
    (finding,) = audit(read(tomllib.loads(text)), None, catalog.load())
    assert (finding.code, finding.command) == ("companion-missing", None)
    assert "triton-xpu" in finding.message


@pytest.mark.parametrize(("code", "text"), TYPED.values(), ids=TYPED)
def test_a_fault_is_gone_once_its_remedy_is_typed(empty: Empty, code: str, text: str) -> None:
    site = empty(text)
    site.uv("lock")
    (finding,) = (one for one in findings(site, machine=machine_for(text)) if one["code"] == code)
    site.uvtorch(*finding["fix"][1:], machine=machine_for(text)).must()
    assert findings(site, code=0, machine=machine_for(text)) == []
    site.uv("lock", "--check").must()


@pytest.mark.parametrize("kind", ["path", "git"])
def test_a_source_that_a_dependency_brings_is_told(empty: Empty, kind: str) -> None:
    site = empty(head("dep"))
    dep = site.path / "dep"
    (dep / "dep").mkdir(parents=True)
    (dep / "dep" / "__init__.py").touch()
    base = site.home.server.base
    text = head("torch").replace("demo", "dep") + '[tool.uv.sources]\ntorch = { index = "pt" }\n'
    text += index("pt", "cu126").replace("BASE", base)
    (dep / "pyproject.toml").write_text(text)
    if kind == "git":
        who = ["-c", "user.email=a@example.com", "-c", "user.name=a"]
        for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "first"]):
            site._run(["git", "-C", str(dep), *words], {}).must()
    source = f'{{ git = "{dep.as_uri()}" }}' if kind == "git" else '{ path = "dep" }'
    site.append(f"[tool.uv.sources]\ndep = {source}\n")
    site.uv("lock").must()
    (finding,) = (one for one in findings(site) if one["code"] == "source-leaked")
    assert finding["fix"] is None
    assert "dep" in finding["message"]
    assert f"{base}/cu126" in finding["message"]
    (finding,) = (one for one in findings(site, machine="mi300x-gfx942") if one["code"] == "cannot-run-here")
    assert "torch comes from cu126" in finding["message"]
    assert finding["fix"] is None  # `torch use` would contradict the dependency


def test_a_locked_build_without_a_wheel_for_this_machine_is_told(empty: Empty) -> None:
    site = empty(head("torch") + '[tool.uv.sources]\ntorch = { index = "pt" }\n' + index("pt", "cu126"))
    site.uv("lock").must()
    assert "no-wheels" not in codes(findings(site, code=0, machine="h100-570"))
    (finding,) = (one for one in findings(site, machine="macos-m3") if one["code"] == "no-wheels")
    assert "macOS on Apple silicon" in finding["message"]


# No false alarms

CLEAN = {
    "nothing of PyTorch": head("numpy"),
    "no pins": head("torch", "torchvision"),
    "a pin": head("torch", "torchvision", "timm")
    + f'[tool.uv.sources]\ntorch = {{ index = "pt", marker = "{LINUX_WINDOWS}" }}\n'
    + f'torchvision = {{ index = "pt", marker = "{LINUX_WINDOWS}" }}\n'
    + index("pt", "cu130"),
    "CPU builds": head("torch", "torchvision")
    + '[tool.uv.sources]\ntorch = { index = "pt" }\ntorchvision = { index = "pt" }\n'
    + index("pt", "cpu"),
    "backends by platform": head("torch", "torchvision")
    + "[tool.uv.sources]\n"
    + "".join(
        f'{name} = [{{ index = "gpu", marker = "sys_platform == \'linux\'" }}, '
        f'{{ index = "cpu", marker = "sys_platform != \'linux\'" }}]\n'
        for name in ("torch", "torchvision")
    )
    + index("gpu", "cu126")
    + index("cpu", "cpu"),
    "choices": head() + CHOICES,
    "choices, and torch in the base": head("torch") + CHOICES,
    "choices as groups": head("numpy")
    + '[dependency-groups]\ncpu = ["torch", "torchvision"]\ngpu = ["torch", "torchvision"]\ndev = ["numpy"]\n'
    + '[tool.uv]\ndefault-groups = ["dev", "cpu"]\nconflicts = [[{ group = "cpu" }, { group = "gpu" }]]\n'
    + "[tool.uv.sources]\n"
    + "".join(
        f'{name} = [{{ index = "cpu", group = "cpu" }}, '
        f'{{ index = "gpu", group = "gpu", marker = "{LINUX_WINDOWS}" }}]\n'
        for name in ("torch", "torchvision")
    )
    + index("cpu", "cpu")
    + index("gpu", "cu126"),
    "an extra for every backend together": head()
    + '[project.optional-dependencies]\ncpu = ["torch"]\ncu130 = ["torch"]\ngpu = ["demo[cu130]"]\n'
    + CHOICES.partition("\n")[2].partition("\n")[2].partition("\n")[2],
    "ROCm": head("torch")
    + f'[dependency-groups]\nuvtorch = ["triton-rocm ; {LINUX_X86_64}"]\n[tool.uv.sources]\n'
    + "".join(f'{name} = {{ index = "pt", marker = "{LINUX_X86_64}" }}\n' for name in ("torch", "triton-rocm"))
    + index("pt", "rocm7.2"),
    "environments that are meant": head("torch")
    + "[tool.uv]\nenvironments = [\"sys_platform == 'linux'\"]\n"
    + CPU_PIN,
    "another index with a backend in its URL": head("torch")
    + CPU_PIN
    + '[[tool.uv.index]]\nname = "kernels"\nurl = "https://example.com/kernels/cu126_torch211"\nexplicit = true\n',
}


@pytest.mark.parametrize("text", CLEAN.values(), ids=CLEAN)
def test_a_project_that_is_well_has_no_finding(empty: Empty, text: str) -> None:
    site = empty(text)
    site.uv("lock").must()
    assert findings(site, code=0, machine=machine_for(text)) == []


def test_what_uvtorch_writes_has_no_finding(project: Site) -> None:
    project.uvtorch("add", "torch", "torchvision", machine="h200-580").must()
    assert findings(project, code=0, machine="h200-580") == []


FAULTY_LAYOUTS = {
    "choice-without-its-source": {"index-unused"},  # the choice's source was forgotten, its index was not
    "dead-markers": {"marker-never-true"},
    "indexes-not-explicit": {"index-not-explicit"},
    "indexes-unused": {"index-unused"},
    "mirror-as-default": {"index-not-explicit"},  # a mirror of CPU builds that anything may come from
    "mirrors": {"companion-missing"},  # ROCm and XPU choices without Triton: uv cannot lock them
}


@pytest.mark.parametrize("name", EXPECTED)
def test_layouts_have_the_faults_they_have_and_no_other(name: str) -> None:
    found = audit(layout(name), None, catalog.load())
    assert {finding.code for finding in found} == FAULTY_LAYOUTS.get(name, set()), found


@pytest.mark.parametrize("name", sorted(path.name[:-10] for path in LAYOUTS.glob("*.root.toml")))
def test_a_workspaces_root_is_judged_with_its_members(name: str) -> None:
    root = read(tables(f"{name}.root"), members=[tables(name)])
    assert audit(root, None, catalog.load()) == ()


# Reading locks


def export(site: Site, *options: str) -> tuple[Package, ...]:
    done = site.uv("export", "--frozen", "--format", "pylock.toml", "--no-header", *options).must()
    return read_export(done.out, lambda name: name.startswith("torch"))


def test_an_export_has_the_builds_that_uv_installs(empty: Empty) -> None:
    site = empty(head("timm") + CHOICES)
    site.uv("lock").must()
    project = read(tomllib.loads(site.file.read_text()))
    options = selections(project)
    assert [*options] == ["", "--extra cpu", "--extra cu130"]
    linux = Environment(Platform("linux", "x86_64"), "3.12")
    for extra in ("cpu", "cu130"):
        site.uv("sync", "--locked", "--extra", extra).must()
        ours = {name: version for name, version in site.installed().items() if name.startswith("torch")}
        packages = export(site, *options[f"--extra {extra}"])
        assert {one.name: one.version for one in packages if holds(one.marker, linux)} == ours


def test_findings_say_where_builds_meet(empty: Empty) -> None:
    site = empty(MENDED["mixed: torchvision added beside the choices"].text)
    site.uv("lock").must()
    (finding,) = findings(site)
    for part in ("torch 2.15.0+cpu", "torchvision 0.29.2", "--extra cpu", "--extra cu130", "Linux x86_64"):
        assert part in finding["message"]
    assert "macOS" not in finding["message"]


def test_a_build_for_another_environment_is_no_finding_here() -> None:
    lock = read_lock(
        'version = 1\nrequires-python = ">=3.11"\nsupported-markers = [\n    "sys_platform == \'linux\'",\n]\n\n'
        '[[package]]\nname = "demo"\nsource = { virtual = "." }\n'
    )
    project = read(tomllib.loads(head()))
    here = Environment(Platform("windows", "x86_64"), "3.12")
    assert audit(project, lock, catalog.load(), here=here) == ()
    linux = Environment(Platform("linux", "x86_64"), "3.12")
    assert audit(project, lock, catalog.load(), here=linux) == ()


# Anchors taken away by hand


@pytest.mark.parametrize(("machine", "backend"), [("cpu-only", "cpu"), ("h200-580", "cu130"), ("h100-535", "cu126")])
def test_an_anchor_removed_by_hand_is_found_and_put_back(project: Site, machine: str, backend: str) -> None:
    project.uvtorch("add", "timm", machine=machine).must()
    anchored = project.file.read_bytes()
    text = project.file.read_text()
    start = text.index("[dependency-groups]")
    end = text.index("\n[", start)
    project.file.write_text(text[:start] + text[end + 1 :])
    project.uv("lock").must()
    found = findings(project, machine=machine)
    assert codes(found) - {"cannot-run-here", "installed-differs"} == {"not-anchored"}
    assert {finding["message"].split()[0] for finding in found if finding["code"] == "not-anchored"} == {
        "torch",
        "torchvision",
    }
    assert findings(project, "--fix", code=0, machine=machine) == []
    project.check(backend)
    assert tomllib.loads(anchored.decode())["dependency-groups"] == project.data["dependency-groups"]


def test_anchors_removed_from_the_choices_are_found_and_put_back(empty: Empty) -> None:
    site = empty(head() + CHOICES)
    site.uv("lock").must()
    site.uvtorch("add", "timm").must()
    assert findings(site, code=0) == []
    gone: list[edit.Operation] = [edit.RemoveSources("torchvision")]
    gone += [edit.RemoveRequirement(Target("extra", extra), "torchvision") for extra in ("cpu", "cu130")]
    site.file.write_bytes(edit.apply(site.file.read_bytes(), gone))
    assert "torchvision" not in site.file.read_text()
    site.uv("lock").must()
    assert codes(findings(site)) - {"installed-differs"} == {"mixed-builds"}
    assert findings(site, "--fix", code=0) == []


# Reading markers


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("python_full_version == '3.12.*'", True),
        ("python_full_version != '3.12.*'", False),
        ("python_full_version == '3.1.*'", False),
        ("python_full_version == '3.1.*' or python_full_version == '3.12.*'", True),
    ],
)
def test_uvs_markers_are_read_as_uv_means_them(marker: str, expected: bool) -> None:
    assert holds(marker, Environment(Platform("linux", "x86_64"), "3.12.4")) is expected
