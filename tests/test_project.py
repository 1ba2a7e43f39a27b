"""Reading pyproject.toml: what is taken from it, and which mistakes in it are named."""

import tomllib
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.examples import given
from uvtorch import requirement
from uvtorch.backend import parse
from uvtorch.errors import ProjectError, UsageError, UvtorchError
from uvtorch.machine import Platform
from uvtorch.project import Environment, Index, Project, Target, read
from uvtorch.project.model import Config, Item
from uvtorch.requirement import can_hold, dead, holds

LINUX = Platform("linux", "x86_64")
ARM = Platform("linux", "aarch64")
WINDOWS = Platform("windows", "x86_64")
WINDOWS_ARM = Platform("windows", "arm64")
MAC = Platform("macos", "arm64")
INTEL_MAC = Platform("macos", "x86_64")


def project(text: str, root: str | None = None) -> Project:
    return read(tomllib.loads(text), tomllib.loads(root) if root is not None else None)


def names(found: Project) -> list[tuple[str, str, str | None]]:
    return [(str(item.target), item.package, item.via) for item in found.requirements]


def test_requirements_come_from_every_table() -> None:
    found = project("""
        [project]
        dependencies = ["Torch>=2.4 ; python_version < '3.14'", "numpy"]
        optional-dependencies = { vision = ["torch_vision[x,Y_z] ~= 0.20"] }
        [dependency-groups]
        dev = ["pytest", { include-group = "Test.Tools" }]
        test_tools = ["torchaudio (>=2)"]
        [tool.uv]
        dev-dependencies = ["torch.text @ https://example.com/t.whl"]
    """)
    assert names(found) == [
        ("base", "torch", None),
        ("base", "numpy", None),
        ("extra vision", "torch-vision", None),
        ("group dev", "pytest", None),
        ("group dev", "torchaudio", "test_tools"),
        ("group test_tools", "torchaudio", None),
        ("group dev", "torch-text", None),
    ]
    assert found.requirements[0].marker == "python_version < '3.14'"
    assert found.requirements[2].extras == ("x", "y-z")
    assert found.includes == ((Target("group", "dev"), Target("group", "test_tools")),)
    assert found.pytorch_packages() == ("torch", "torchaudio")
    assert [str(item.target) for item in found.pytorch_requirements()] == ["base", "group test_tools"]


def test_an_empty_file_is_a_project_without_anything() -> None:
    assert read({}) == Project()
    assert not project("[tool.uv]").has_project
    assert project("[project]\nname = 'A.b_C'").name == "a-b-c"


@pytest.mark.parametrize(
    ("toml", "default"),
    [
        ("", ("dev",)),
        ("tool.uv.default-groups = []", ()),
        ("tool.uv.default-groups = ['DOCS', 'dev']", ("docs", "dev")),
        ("tool.uv.default-groups = ['gone']", ()),
        ("tool.uv.default-groups = 'all'", ("dev", "docs")),
    ],
)
def test_default_groups_are_spelled_out(toml: str, default: tuple[str, ...]) -> None:
    assert project(f"{toml}\n[dependency-groups]\ndev = []\ndocs = []").default_groups == default


def test_no_default_group_where_there_is_no_group() -> None:
    assert project("[project]").default_groups == ()
    assert project("tool.uv.dev-dependencies = []").default_groups == ("dev",)


def test_indexes_keep_order_and_flags() -> None:
    found = project("""
        [tool.uv]
        index = [
          { name = "pt", url = "https://download.pytorch.org/whl/cu128", explicit = true },
          { url = "https://example.com/simple", default = true },
        ]
        index-url = "https://example.com/other"
        extra-index-url = ["https://download.pytorch.org/whl/cpu"]
    """)
    assert found.indexes == (
        Index("pt", "https://download.pytorch.org/whl/cu128", explicit=True),
        Index(None, "https://example.com/simple", default=True),
        Index(None, "https://download.pytorch.org/whl/cpu", legacy=True),
        Index(None, "https://example.com/other", default=True, legacy=True),
    )
    assert [index.backend for index in found.indexes] == [parse("cu128"), None, parse("cpu"), None]


@pytest.mark.parametrize(
    ("index", "pypi"),
    [
        (Index("PyPI", "https://example.com/simple"), True),
        (Index("x", "https://pypi.example/simple"), True),
        (Index("x", "https://user:secret@pypi.example:443/simple"), True),
        (Index("x", "https://pypi.python.example/simple"), True),
        (Index("x", "https://pypi.vendor.example/simple"), False),
        (Index("x", "https://example.com/pypi/simple"), False),
        (Index("x", "https://example.com/simple", default=True), True),
    ],
)
def test_pypi_is_known_by_host_name_or_role(index: Index, pypi: bool) -> None:
    assert index.is_pypi is pypi


def test_sources_of_every_kind() -> None:
    found = project("""
        [[tool.uv.index]]
        name = "pt"
        url = "https://download.pytorch.org/whl/nightly/cu130"
        [tool.uv.sources]
        Torch = [
          { index = "pt", marker = "os_name == 'nt'" },
          { url = "https://example.com/torch-2.7.0%2Bcpu-cp311-x.whl" },
        ]
        torch_vision = { index = "gone", group = "g" }
        torchaudio = { path = "wheels/torchaudio-2.7.0+cu126-cp311-x.whl", extra = "e" }
        torchtext = { git = "https://example.com/cu126" }
        mine = { workspace = true }
    """)
    rows = [(s.package, s.kind, s.index, s.url, str(s.backend), str(s.target)) for s in found.sources]
    assert rows == [
        ("torch", "index", "pt", "https://download.pytorch.org/whl/nightly/cu130", "nightly/cu130", "base"),
        ("torch", "url", None, "https://example.com/torch-2.7.0%2Bcpu-cp311-x.whl", "cpu", "base"),
        ("torch-vision", "index", "gone", None, "None", "group g"),
        ("torchaudio", "path", None, "wheels/torchaudio-2.7.0+cu126-cp311-x.whl", "cu126", "extra e"),
        ("torchtext", "git", None, "https://example.com/cu126", "None", "base"),
        ("mine", "workspace", None, None, "None", "base"),
    ]


def test_conflict_sets_keep_their_packages() -> None:
    found = project("""
        [tool.uv]
        conflicts = [
          [{ extra = "a" }, { group = "b" }],
          [{ package = "Other.One" }, { package = "x", extra = "y" }],
        ]
    """)
    assert found.conflicts == (
        (Item("extra", "a"), Item("group", "b")),
        (Item("package", "Other.One", "other-one"), Item("extra", "y", "x")),
    )


def test_a_member_wins_over_its_root() -> None:
    root = """
        [project]
        name = "root"
        [tool.uv]
        conflicts = [[{ extra = "a" }, { extra = "b" }]]
        [[tool.uv.index]]
        name = "pt"
        url = "https://download.pytorch.org/whl/cpu"
        [[tool.uv.index]]
        name = "root-only"
        url = "https://download.pytorch.org/whl/cu126"
        [tool.uv.sources]
        torch = { index = "root-only" }
        torchvision = { index = "root-only" }
        [tool.uvtorch]
        auto = true
        backend = "cu126"
    """
    member = """
        [project]
        name = "member"
        [[tool.uv.index]]
        name = "pt"
        url = "https://download.pytorch.org/whl/cu130"
        [tool.uv.sources]
        torch = { index = "pt" }
        torchaudio = { index = "root-only" }
        [tool.uvtorch]
        backend = "cpu"
    """
    found = project(member, root)
    assert [(s.package, str(s.backend), s.inherited) for s in found.sources] == [
        ("torch", "cu130", False),
        ("torchaudio", "cu126", False),
        ("torchvision", "cu126", True),
    ]
    assert [index.name for index in found.indexes] == ["pt", "root-only"]
    assert found.conflicts == ((Item("extra", "a", "root"), Item("extra", "b", "root")),)
    assert found.config == Config(parse("cpu"), auto=True)


@pytest.mark.parametrize("machine", [LINUX, ARM, WINDOWS, MAC])
def test_pins_are_the_sources_that_hold_there_unasked(machine: Platform) -> None:
    found = project("""
        [project]
        dependencies = ["torch", "numpy"]
        [[tool.uv.index]]
        name = "cu"
        url = "https://download.pytorch.org/whl/cu128"
        [[tool.uv.index]]
        name = "cpu"
        url = "https://download.pytorch.org/whl/cpu"
        [tool.uv.sources]
        torch = [
          { index = "cu", marker = "platform_system == 'Linux' and platform_machine == 'x86_64' or os_name == 'nt'" },
          { index = "cpu", marker = "sys_platform == 'darwin'" },
          { index = "cpu", extra = "never" },
        ]
        numpy = { index = "cpu" }
        triton-xpu = { index = "cpu", marker = "sys_platform == 'linux'" }
    """)
    expected = {
        LINUX: [("torch", "cu128"), ("triton-xpu", "cpu")],
        ARM: [("triton-xpu", "cpu")],
        WINDOWS: [("torch", "cu128")],
        MAC: [("torch", "cpu")],
    }
    assert [(pin.package, str(pin.backend)) for pin in found.pins(machine)] == expected[machine]


MARKERS = [
    ("sys_platform == 'linux'", {LINUX, ARM}),
    ('"linux" == sys_platform', {LINUX, ARM}),
    ("sys_platform=='linux'or sys_platform=='win32'", {LINUX, ARM, WINDOWS, WINDOWS_ARM}),
    ("sys_platform != 'darwin'", {LINUX, ARM, WINDOWS, WINDOWS_ARM}),
    ("platform_system == 'Linux' and platform_machine == 'x86_64'", {LINUX}),
    (
        "(sys_platform == 'linux' and platform_machine != 'aarch64') or sys_platform == 'win32'",
        {LINUX, WINDOWS, WINDOWS_ARM},
    ),
    ("platform_machine == 'AMD64'", {WINDOWS}),
    ("platform_machine in 'x86_64 AMD64'", {LINUX, WINDOWS, INTEL_MAC}),
    ("platform_machine not in 'x86_64 AMD64'", {ARM, WINDOWS_ARM, MAC}),
    ("'arm' in platform_machine", {MAC}),
    ("os_name == 'posix' and platform_machine == 'arm64'", {MAC}),
    ("platform_system == 'Windows'", {WINDOWS, WINDOWS_ARM}),
    ("platform_system == 'Darwin' and platform_machine == 'x86_64'", {INTEL_MAC}),
    ("sys_platform == 'Linux'", set()),
    ("sys_platform != 'Darwin'", {LINUX, ARM, WINDOWS, WINDOWS_ARM, MAC, INTEL_MAC}),
    ("python_version >= '3.9' and python_full_version < '3.12.5'", {LINUX, ARM, WINDOWS, WINDOWS_ARM, MAC, INTEL_MAC}),
    ("python_version < '3.10' or sys_platform == 'linux'", {LINUX, ARM}),
    ("python_version == '3.12.*' and sys_platform == 'win32'", {WINDOWS, WINDOWS_ARM}),
    ("python_version ~= '3.12' and platform_machine == 'arm64'", {MAC}),
    ("implementation_name == 'cpython' and os_name == 'nt'", {WINDOWS, WINDOWS_ARM}),
    ("platform_python_implementation == 'PyPy'", set()),
    ("extra == 'cpu'", set()),
    ("platform_release >= '5' and sys_platform == 'linux'", set()),
    ("os.name == 'nt'", {WINDOWS, WINDOWS_ARM}),
]


@pytest.mark.parametrize(("marker", "where"), MARKERS, ids=[marker for marker, _ in MARKERS])
def test_markers_hold_on_the_described_machine(marker: str, where: set[Platform]) -> None:
    everywhere = (LINUX, ARM, WINDOWS, WINDOWS_ARM, MAC, INTEL_MAC)
    assert {machine for machine in everywhere if holds(marker, Environment(machine, "3.12.4"))} == where


@pytest.mark.parametrize("marker", [marker for marker, _ in MARKERS if "os.name" not in marker])
def test_markers_mean_what_packaging_says(marker: str) -> None:
    from packaging.markers import Marker

    for machine in (LINUX, ARM, WINDOWS, WINDOWS_ARM, MAC, INTEL_MAC):
        environment = Environment(machine, "3.12.4")
        unknown = {"platform_release": "0", "platform_version": "0", "implementation_version": "3.12.4"}
        assert holds(marker, environment) is Marker(marker).evaluate({**unknown, **environment.values()}), machine


VARIABLES = ["sys_platform", "platform_system", "platform_machine", "os_name", "python_version"]
VALUES = ["linux", "win32", "darwin", "Linux", "x86_64", "aarch64", "nt", "posix", "3.12", "3.9", "3.13"]
COMPARISONS = st.builds(
    lambda variable, op, value: f"{variable} {op} '{value}'",
    st.sampled_from(VARIABLES[:4]),
    st.sampled_from(["==", "!=", "in", "not in"]),
    st.sampled_from(VALUES[:-3]),
) | st.builds(
    lambda op, value: f"python_version {op} '{value}'",
    st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(VALUES[-3:]),
)
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda parts: (
        st.builds(lambda a, op, b: f"{a} {op} {b}", parts, st.sampled_from(["and", "or"]), parts)
        | parts.map(lambda part: f"({part})")
    ),
    max_leaves=6,
)


@given(marker=EXPRESSIONS, machine=st.sampled_from([LINUX, ARM, WINDOWS, MAC]))
def test_any_combination_means_what_packaging_says(marker: str, machine: Platform) -> None:
    from packaging.markers import Marker

    environment = Environment(machine, "3.12")
    assert holds(marker, environment) is Marker(marker).evaluate(dict(environment.values()))


@pytest.mark.parametrize("marker", [None, "", "  "])
def test_no_marker_holds_everywhere(marker: str | None) -> None:
    assert holds(marker, Environment(MAC))


@pytest.mark.parametrize(
    "marker", ["linux", "sys_platform ==", "sys_platform == 'linux' and", "(os_name == 'nt'", "$x", "a == 'b'"]
)
def test_a_marker_that_is_none_is_an_error(marker: str) -> None:
    with pytest.raises(ProjectError, match=r"the marker .* cannot be read"):
        holds(marker, Environment(LINUX))


@pytest.mark.parametrize(
    ("marker", "found"),
    [
        ("sys_platform == 'Linux'", ("sys_platform == 'Linux' is never true",)),
        ("sys_platform != 'Darwin'", ("sys_platform != 'Darwin' is always true",)),
        ("'windows' == sys_platform", ("sys_platform == 'windows' is never true",)),
        ("platform_system == 'linux' or platform_system == 'win32'",
         ("platform_system == 'linux' is never true", "platform_system == 'win32' is never true")),
        ("os_name == 'linux'", ("os_name == 'linux' is never true",)),
        ("sys_platform == 'linux' and platform_machine == 'x86_64'", ()),
        ("sys_platform == 'freebsd14'", ()),
        ("extra == 'cu128'", ("extra == 'cu128' is never true",)),
        ("extra != 'cpu' and sys_platform == 'linux'", ("extra != 'cpu' is always true",)),
        ("sys_platform in 'Linux'", ()),
        ("(broken", ()),
    ],
)  # fmt: skip
def test_comparisons_that_no_platform_changes_are_found(marker: str, found: tuple[str, ...]) -> None:
    assert dead(marker) == found


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        (None, True),
        ("sys_platform == 'Linux'", False),
        ("sys_platform == 'Linux' or sys_platform == 'win32'", True),
        ("platform_system == 'Windows' and platform_machine == 'x86_64'", False),
        ("python_version < '3.10' and sys_platform == 'darwin'", True),
        ("python_version < '3'", False),
        ("sys_platform == 'freebsd14'", False),
        ("extra == 'cpu'", True),
        ("extra == 'cpu' and sys_platform == 'Linux'", False),
        ("(broken", True),
    ],
)
def test_a_marker_can_hold_where_pytorch_has_wheels(marker: str | None, expected: bool) -> None:
    assert can_hold(marker) is expected


def test_a_source_that_never_holds_pins_nothing() -> None:
    found = project("""
        [project]
        dependencies = ["torch"]
        [[tool.uv.index]]
        name = "cu"
        url = "https://download.pytorch.org/whl/cu128"
        explicit = true
        [tool.uv.sources]
        torch = { index = "cu", marker = "sys_platform == 'Linux'" }
    """)
    assert (found.choices(), found.choices_for(LINUX), found.pins(LINUX)) == ((), (), ())


@pytest.mark.parametrize(
    ("url", "package", "backend", "named", "vendor"),
    [
        ("https://mirror.example.com/whl/cu126", "torch", "cu126", "cu126", None),
        ("https://mirror.example.com/jp6/cu126", "torch", "None", "cu126", "jetson"),
        ("https://mirror.example.com/v2/gfx120X-all/", "torch", "None", "None", "gfx120X-all"),
        ("https://kernels.example.com/whl/cu128", "flashinfer-python", "None", "cu128", None),
        ("https://kernels.example.com/whl/cu128", "kernels", "cu128", "cu128", None),
        ("https://mirror.example.com/simple", "torch", "None", "None", None),
    ],
)
def test_what_another_host_serves_is_not_pytorchs(
    url: str, package: str, backend: str, named: str, vendor: str | None
) -> None:
    found = project(f"""
        [tool.uvtorch]
        packages = ["kernels"]
        [[tool.uv.index]]
        name = "its"
        url = "{url}"
        [tool.uv.sources]
        {package} = {{ index = "its", extra = "gpu" }}
        [project.optional-dependencies]
        gpu = ["{package}"]
    """)
    (source,) = found.sources
    assert (str(source.backend), str(source.named)) == (backend, named)
    for choice in found.choices():
        assert (str(choice.backend), choice.vendor) == (named, vendor)
        assert choice.origin == ("index" if source.backend else "unknown")


@pytest.mark.parametrize(
    ("text", "specifier"), [("six>=1.16.*", ">=1.16"), ("six>=1<3", "<3,>=1"), ("six >= 1.0.*, <2", "<2,>=1.0")]
)
def test_a_requirement_that_uv_puts_up_with_is_read(text: str, specifier: str) -> None:
    found = read({"project": {"dependencies": [text]}})
    assert (found.requirements[0].package, found.requirements[0].text) == ("six", text)
    assert str(requirement.parse(text).specifier) == specifier


def test_configuration_is_read() -> None:
    found = project("""
        [tool.uvtorch]
        backend = "nightly/cu130"
        auto = true
        index-base = "https://mirror.example.com/whl"
        packages = ["TorchAO", "torchao"]
        catalog = "catalog.toml"
    """)
    assert found.config == Config(
        parse("nightly/cu130"), True, "https://mirror.example.com/whl", ("torchao",), "catalog.toml"
    )
    assert found.is_pytorch("torchao")
    assert project("tool.uvtorch.backend = 'auto'").config == Config()


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("tool.uvtorch = 1", "`tool.uvtorch` must be a table, not a number"),
        ("tool.uvtorch.backends = 'cpu'", "`tool.uvtorch.backends` is not a setting"),
        ("tool.uvtorch.index_base = 'x'", "`tool.uvtorch.index_base` is not a setting"),
        ("tool.uvtorch.backend = 128", "`tool.uvtorch.backend` must be a string, not a number"),
        ("tool.uvtorch.backend = 'cuda'", "`tool.uvtorch.backend` is 'cuda', which is no backend"),
        ("tool.uvtorch.backend = ''", "`tool.uvtorch.backend` is '', which is no backend"),
        ("tool.uvtorch.auto = 'yes'", "`tool.uvtorch.auto` must be true or false, not a string"),
        ("tool.uvtorch.packages = 'torchao'", "`tool.uvtorch.packages` must be an array of strings, not a string"),
        (
            "tool.uvtorch.packages = [1]",
            "`tool.uvtorch.packages` must be an array of strings, not an array with a number",
        ),
        ("tool.uvtorch.index-base = 'mirror'", "`tool.uvtorch.index-base` is 'mirror', which is not a URL"),
        ("tool.uvtorch.index-base = 'https://me:x@example.com/whl'", "****@example.com/whl', which holds credentials"),
        ("tool.uvtorch.catalog = []", "`tool.uvtorch.catalog` must be a string, not an array"),
        ("tool.uvtorch.index-base = true", "`tool.uvtorch.index-base` must be a string, not a boolean"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(toml: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        project(toml)
    assert message in str(caught.value)


def test_an_unknown_setting_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        project("tool.uvtorch.mirror = 'x'")
    assert caught.value.hints == ("the settings are: backend, auto, index-base, packages, catalog",)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("project = 'x'", "`project` must be a table, not a string"),
        ("tool = []", "`tool` must be a table, not an array"),
        ("tool.uv = 1.5", "`tool.uv` must be a table, not a number"),
        ("project.name = 1", "`project.name` must be a string, not a number"),
        ("project.requires-python = []", "`project.requires-python` must be a string"),
        ("project.dependencies = 'torch'", "`project.dependencies` must be an array of strings, not a string"),
        ("project.dependencies = [{}]", "`project.dependencies` must be an array of strings, not an array with"),
        ("project.dependencies = ['@@']", "`project.dependencies` holds '@@', which is not a requirement"),
        ("project.dependencies = ['']", "`project.dependencies` holds '', which is not a requirement"),
        ("project.dependencies = ['a b']", "`project.dependencies` holds 'a b', which is not a requirement"),
        ("project.optional-dependencies = []", "`project.optional-dependencies` must be a table, not an array"),
        ("project.optional-dependencies.x = 'torch'", "`project.optional-dependencies.x` must be an array of strings"),
        ("dependency-groups = 1979-05-27", "`dependency-groups` must be a table, not a date or time"),
        ("dependency-groups.x = 'torch'", "`dependency-groups.x` must be an array of requirements and"),
        ("dependency-groups.x = [1]", "`dependency-groups.x` must be an array of requirements and"),
        ("dependency-groups.x = [{include-group = 'y'}]", "includes the group `y`, which is missing"),
        ("dependency-groups.x = [{include-group = 'x'}]", "`dependency-groups.x` includes itself: x -> x"),
        ("tool.uv.dev-dependencies = 'x'", "`tool.uv.dev-dependencies` must be an array of strings"),
        ("tool.uv.default-groups = 'dev'", '`tool.uv.default-groups` must be an array of strings or "all", not'),
        ("tool.uv.default-groups = [1]", "`tool.uv.default-groups` must be an array of strings"),
        ("tool.uv.index = {}", "`tool.uv.index` must be an array of tables, not a table"),
        ("tool.uv.index = ['x']", "`tool.uv.index` must be an array of tables, not an array with a string"),
        ("tool.uv.index = [{name = 'x'}]", "an entry of `tool.uv.index` has no `url`"),
        ("tool.uv.index = [{url = 1}]", "`tool.uv.index.url` must be a string, not a number"),
        ("tool.uv.index = [{url = 'x', name = 1}]", "`tool.uv.index.name` must be a string, not a number"),
        ("tool.uv.index = [{url = 'x', explicit = 1}]", "`tool.uv.index.explicit` must be true or false, not a number"),
        ("tool.uv.extra-index-url = [1]", "`tool.uv.extra-index-url` must be an array of strings"),
        ("tool.uv.index-url = []", "`tool.uv.index-url` must be a string"),
        ("tool.uv.sources = []", "`tool.uv.sources` must be a table, not an array"),
        ("tool.uv.sources.torch = 'pt'", "`tool.uv.sources.torch` must be a table or an array of tables, not a string"),
        ("tool.uv.sources.torch = ['pt']", "`tool.uv.sources.torch` must be a table or an array of tables"),
        ("tool.uv.sources.torch = {}", "`tool.uv.sources.torch` names no index, URL, repository, path or workspace"),
        ("tool.uv.sources.torch = {index = 1}", "`tool.uv.sources.torch.index` must be a string, not a number"),
        ("tool.uv.sources.torch = {index = 'x', extra = []}", "`tool.uv.sources.torch.extra` must be a string"),
        ("tool.uv.conflicts = 'x'", "`tool.uv.conflicts` must be an array of arrays of tables of strings, not a"),
        ("tool.uv.conflicts = [{}]", "`tool.uv.conflicts` must be an array of arrays"),
        ("tool.uv.conflicts = [['x']]", "`tool.uv.conflicts` must be an array of arrays of tables of strings"),
        ("tool.uv.conflicts = [[{extra = 1}]]", "`tool.uv.conflicts` must be an array of arrays of tables of strings"),
        ("tool.uv.conflicts = [[{}]]", "an item of `tool.uv.conflicts` names no extra, group or package"),
        ("tool.uv.environments = [1]", "`tool.uv.environments` must be an array of strings"),
    ],
)  # fmt: skip
def test_a_table_of_the_wrong_shape_is_named(toml: str, message: str) -> None:
    with pytest.raises(ProjectError) as caught:
        project(toml)
    assert str(caught.value).startswith("pyproject.toml: ")
    assert message in str(caught.value)


def test_messages_name_the_file_they_are_about() -> None:
    with pytest.raises(ProjectError, match=r"^app/pyproject.toml: `project` must be"):
        read({"project": 1}, origin="app/pyproject.toml")
    with pytest.raises(ProjectError, match=r"^pyproject.toml \(the workspace's root\): `tool.uv.index` must be"):
        read({}, {"tool": {"uv": {"index": 1}}})


LEAVES: Any = st.one_of(
    st.text(max_size=5), st.integers(), st.booleans(), st.sampled_from(["torch", "dev", "x", "all"])
)
VALUES_OF_ANY_SHAPE = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "url", "extra", "group", "index", "torch", "include-group", "dev"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "dependencies",
        "optional-dependencies",
        "name",
        "index",
        "sources",
        "conflicts",
        "default-groups",
        "packages",
        "dev",
    ]
)
TABLES = st.dictionaries(KEYS, VALUES_OF_ANY_SHAPE, max_size=4)


@given(own=TABLES, uv=TABLES, groups=VALUES_OF_ANY_SHAPE, uvtorch=st.none() | TABLES)
def test_a_file_of_any_shape_is_read_or_refused(own: Any, uv: Any, groups: Any, uvtorch: Any) -> None:
    data = {"project": own, "tool": {"uv": uv}, "dependency-groups": groups}
    if uvtorch is not None:
        data["tool"]["uvtorch"] = uvtorch
    try:
        found = read(data)
    except UvtorchError:
        return
    found.choices()
    found.choices_for(LINUX)


def test_a_target_reads_as_uv_would_name_it() -> None:
    assert [str(Target("base")), str(Target("extra", "gpu")), str(Target("group", "cpu"))] == [
        "base",
        "extra gpu",
        "group cpu",
    ]
