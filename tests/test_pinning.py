"""What follows from a project and a decision, as edits: no text, no files."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import tomlkit

from tests import edits as edit
from uvtorch.backend import Backend, parse
from uvtorch.choose import Decision
from uvtorch.edits import pin, pin_like, unpin
from uvtorch.packages import configures
from uvtorch.project import Project, Source, Target, read
from uvtorch.project.pyproject import PyProject

CU126 = "https://download.pytorch.org/whl/cu126"
GROUP = Target("group", "uvtorch")


FILES: dict[Project, bytes] = {}


class Recorder(PyProject):
    """A file that remembers what is done to it, in order; what changes nothing is left out."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.done: list[edit.Operation] = []
        self.inner = False

    def __getattribute__(self, name: str) -> Any:
        method, operation = super().__getattribute__(name), getattr(edit, name.title().replace("_", ""), None)
        if operation is None:
            return method

        def recorded(*args: object, **options: object) -> None:
            before, inner, self.inner = copy.deepcopy(self._data), self.inner, True
            method(*args, **options)
            self.inner = inner
            if not inner and self._data != before:
                self.done.append(operation(*args))

        return recorded


def edits(change: Callable[..., None], what: Project, *args: object, **options: object) -> list[edit.Operation]:
    recorder = Recorder(FILES[what])
    change(recorder, what, *args, **options)
    recorder.render()
    return recorder.done


def project(*dependencies: str, anchors: tuple[str, ...] = (), pinned: tuple[str, ...] = ()) -> Project:
    """A project of direct and anchored requirements whose `pinned` packages come from uvtorch's index for cu126."""
    uv: dict[str, object] = {}
    if pinned:
        uv["sources"] = {name: [{"index": "pytorch-cu126"}] for name in pinned}
        uv["index"] = [{"name": "pytorch-cu126", "url": CU126, "explicit": True}]
    groups = {"uvtorch": list(anchors)} if anchors else {}
    data = {"project": {"name": "demo", "dependencies": list(dependencies)}, "dependency-groups": groups}
    found = read(data | {"tool": {"uv": uv}})
    FILES[found] = tomlkit.dumps(data | {"tool": {"uv": uv}}).encode()
    return found


def without(
    what: Project, *gone: str, users: dict[str, tuple[str, ...]] | None = None, target: Target | None = None
) -> list[edit.Operation]:
    return edits(unpin, what, users or {}, set(gone), target)


def test_the_last_package_takes_everything_along() -> None:
    found = without(project("torch", pinned=("torch",)), "torch")
    assert found == [edit.RemoveIndex("pytorch-cu126")]
    what = project("torch", anchors=("triton-xpu ; sys_platform == 'linux'",), pinned=("torch", "triton-xpu"))
    assert without(what, "torch") == [
        edit.RemoveTarget(GROUP),
        edit.RemoveSources("triton-xpu"),
        edit.RemoveIndex("pytorch-cu126"),
    ]


def test_an_index_that_others_use_stays() -> None:
    what = project("torch", "xformers", pinned=("torch", "xformers"))
    assert without(what, "torch") == []


def test_what_a_user_put_into_the_group_stays() -> None:
    what = project("torch", anchors=("torchvision", "house-package"), pinned=("torch", "torchvision"))
    assert without(what, "torch") == [
        edit.RemoveRequirement(GROUP, "torchvision"),
        edit.RemoveSources("torchvision"),
        edit.RemoveIndex("pytorch-cu126"),
    ]


def test_what_is_still_needed_gets_an_anchor() -> None:
    what = project("torch", "timm", pinned=("torch",))
    assert without(what, "torch", users={"torch": ("timm",)}) == [edit.AddRequirement(GROUP, "torch")]
    what = project("torch", "torchvision", "timm", pinned=("torch", "torchvision"))
    users = {"torch": ("timm", "torchvision"), "torchvision": ("timm",)}
    assert without(what, "torch", "torchvision", users=users) == [
        edit.AddRequirement(GROUP, "torch"),
        edit.AddRequirement(GROUP, "torchvision"),
    ]


def test_packages_that_need_only_each_other_are_not_needed() -> None:
    what = project("torchvision", anchors=("torch",), pinned=("torch", "torchvision"))
    found = without(what, "torchvision", users={"torch": ("torchvision",)})
    assert edit.RemoveTarget(GROUP) in found
    assert edit.RemoveIndex("pytorch-cu126") in found


def test_torch_stays_routed_while_a_sister_is_required() -> None:
    what = project("torch", "torchvision", pinned=("torch", "torchvision"))
    assert without(what, "torch") == [edit.AddRequirement(GROUP, "torch")]
    assert without(what, "torchvision") == []


def test_what_has_no_source_is_not_anchored() -> None:
    assert without(project("torch", "timm"), "torch", users={"torch": ("timm",)}) == []


def test_another_targets_requirement_is_not_removed() -> None:
    what = project("torch", pinned=("torch",))
    assert without(what, "torch", target=Target("group", "dev")) == []


@pytest.mark.parametrize(
    ("users", "gone"),
    [
        ({"torch": ("timm",), "torchvision": ("timm",)}, []),
        ({"torch": ("timm", "torchvision"), "torchvision": ()}, ["torchvision"]),
        ({"torch": ("torchvision",), "torchvision": ()}, ["torch", "torchvision"]),
        ({"torch": (), "torchvision": ("timm",)}, ["torch"]),
    ],
)
def test_anchors_that_nothing_needs_go(users: dict[str, tuple[str, ...]], gone: list[str]) -> None:
    what = project("timm", anchors=("torch", "torchvision"), pinned=("torch", "torchvision"))
    found = edits(unpin, what, users)
    assert [item.package for item in found if isinstance(item, edit.RemoveSources)] == gone
    everything = len(gone) == 2
    assert (edit.RemoveTarget(GROUP) in found) == everything
    assert (edit.RemoveIndex("pytorch-cu126") in found) == everything


def test_a_companion_goes_with_its_torch_only() -> None:
    what = project("timm", anchors=("torch", "triton-xpu"), pinned=("torch", "triton-xpu"))
    assert edits(unpin, what, {"torch": ("timm",)}) == []
    assert edit.RemoveTarget(GROUP) in edits(unpin, what, {"torch": ()})


def test_transitive_packages_are_anchored_and_direct_ones_are_not() -> None:
    decision = Decision(Backend("cu", (12, 6)), "2.9.1", bounds=(("torch", "<2.10"),))
    found = edits(
        pin,
        project("torchvision", "timm"),
        (),
        decision,
        "https://download.pytorch.org/whl",
        transitive=("torchaudio",),
    )
    anchors = [item for item in found if isinstance(item, edit.SetRequirement)]
    assert anchors == [
        edit.SetRequirement(GROUP, "torch", "torch<2.10"),
        edit.SetRequirement(GROUP, "torchaudio", "torchaudio"),
    ]
    sources = {item.package for item in found if isinstance(item, edit.SetSources)}
    assert sources == {"torch", "torchvision", "torchaudio"}


@pytest.mark.parametrize(
    "text",
    [
        "[tool.uvtorch]\nauto = true\n",
        '[ tool . "uvtorch" ]\r\n',
        "tool.uvtorch.auto = true\n",
        "[tool]\nuvtorch = { auto = true }\n",
        "[tool]\nuvtorch.auto = true\n",
        "tool = { uvtorch = { auto = true } }",
        "tool = { other = 1, uvtorch.auto = true }",
        "[tool.\tuvtorch]",
    ],
)
def test_configuration_is_seen_however_it_is_spelled(text: str) -> None:
    assert configures(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[dependency-groups]\nuvtorch = ["torch"]\n',
        'dependency-groups.uvtorch = ["torch"]\n',
        '[dependency-groups]\ndev = ["uvtorch", "uvtorch>=0.1"]\n',
        "# see uvtorch\n",
    ],
)
def test_anchors_and_requirements_are_no_configuration(text: str) -> None:
    assert not configures(text.encode())


def test_companions_of_an_earlier_backend_go_and_exact_releases_stay() -> None:
    marker = "sys_platform == 'linux'"
    what = project("torch", "torch-sparse", anchors=("torch==2.11.*", f"triton-xpu ; {marker}"), pinned=("torch",))
    found = edits(pin, what, (), Decision(Backend("cpu"), "2.11.0"), "https://download.pytorch.org/whl")
    assert edit.RemoveRequirement(GROUP, "triton-xpu") in found
    assert not [
        item for item in found if getattr(item, "package", "") == "torch" and "Requirement" in type(item).__name__
    ]
    assert edit.RemoveTarget(GROUP) not in found


def test_what_an_index_has_no_build_of_stays_with_the_default_index() -> None:
    """torchcodec is built for neither XPU nor ROCm before 10.0, torchtext for the CPU alone."""
    what = project("torch", "torchcodec", "torchtext", pinned=("torch", "torchcodec"))

    def changed(backend: str, torch: str = "2.11.0") -> tuple[set[str], set[str]]:
        decision = Decision(parse(backend), torch)
        found = edits(pin, what, (), decision, "https://download.pytorch.org/whl", transitive=("torchcodec",))
        sets = {item.package for item in found if isinstance(item, edit.SetSources)}
        return sets, {item.package for item in found if isinstance(item, edit.RemoveSources)}

    assert changed("cu130") == ({"torch", "torchcodec"}, set())
    assert changed("cu130", "2.10.0") == ({"torch"}, {"torchcodec"})  # untagged there, as on the default index
    assert changed("rocm7.2") == ({"torch"}, {"torchcodec"})
    assert changed("rocm10.0") == ({"torch", "torchcodec"}, set())
    assert changed("cpu") == ({"torch", "torchcodec", "torchtext"}, set())
    pins = [Source("torch", index="amd", url="https://example.com/whl/rocm7.2", backend=parse("rocm7.2"))]
    found = edits(pin_like, project("torch", pinned=("torch",)), ("torchcodec", "torchvision"), pins)
    assert [item.package for item in found if isinstance(item, edit.SetSources)] == ["torchvision"]
