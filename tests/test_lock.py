"""Reading uv.lock: the same facts as a full parse, without one."""

import tomllib

import pytest

from uvtorch.errors import ProjectError
from uvtorch.machine import Platform
from uvtorch.project import Environment, read
from uvtorch.project.lock import Lock, read_lock, stray

LINUX = Environment(Platform("linux", "x86_64"), "3.12")
MAC = Environment(Platform("macos", "arm64"), "3.12")
CU128 = "https://download.pytorch.org/whl/cu128"
CPU = "https://download.pytorch.org/whl/cpu"
DEFAULT = "https://index.example.com/simple"

LOCK = f"""version = 1
revision = 5
requires-python = ">=3.11"
resolution-markers = [
    "sys_platform == 'darwin'",
    "sys_platform != 'darwin'",
]

[[package]]
name = "app"
source = {{ virtual = "." }}
dependencies = [
    {{ name = "timm" }},
    {{ name = "torch", version = "2.11.0", source = {{ registry = "{DEFAULT}" }}, marker = "os_name == 'mac'" }},
    {{ name = "torch", version = "2.11.0+cu128", source = {{ registry = "{CU128}" }}, marker = "os_name != 'mac'" }},
]

[package.optional-dependencies]
extra = [
    {{ name = "numpy" }},
]

[package.metadata]
requires-dist = [
    {{ name = "torch", marker = "sys_platform != 'darwin'", index = "{CU128}" }},
]

[[package]]
name = "numpy"
version = "2.4.0"
source = {{ registry = "{DEFAULT}" }}
sdist = {{ url = "https://files.example.com/numpy-2.4.0.tar.gz", hash = "sha256:00", size = 1 }}

[[package]]
name = "timm"
version = "1.0.19"
source = {{ git = "https://example.com/timm?rev=main#abcdef" }}
dependencies = [{{ name = "torch", extra = ["opt"] }}, {{ name = "torchvision" }}]

[[package]]
name = "torch"
version = "2.11.0"
source = {{ registry = "{DEFAULT}" }}
resolution-markers = [
    "sys_platform == 'darwin'",
]

[[package]]
name = "torch"
version = "2.11.0+cu128"
source = {{ registry = "{CU128}" }}
resolution-markers = [
    "sys_platform != 'darwin'",
]
dependencies = [
    {{ name = "numpy" }},
]
wheels = [
    {{ url = "{CU128}/torch-2.11.0%2Bcu128-cp311-cp311-manylinux_2_28_x86_64.whl", hash = "sha256:00" }},
]

[[package]]
name = "torchvision"
version = "0.26.0"
source = {{ registry = "{DEFAULT}" }}
dependencies = [
    {{ name = "torch" }},
]
"""

PROJECT = f"""
[project]
name = "app"
dependencies = ["timm", "torch"]
[[tool.uv.index]]
name = "pt"
url = "{CU128}/"
explicit = true
[tool.uv.sources]
torch = {{ index = "pt", marker = "sys_platform != 'darwin'" }}
"""


def facts(lock: Lock) -> list[tuple[object, ...]]:
    return [
        (item.name, item.version, item.kind, item.location, item.dependencies, item.tables()) for item in lock.packages
    ]


def test_a_lock_of_uvs_own_writing_is_read_without_parsing_it_whole() -> None:
    lock = read_lock(LOCK)
    assert all(isinstance(package.piece, str) for package in lock.packages)
    assert [(item.name, item.version, item.kind, item.location) for item in lock.packages] == [
        ("app", None, "virtual", "."),
        ("numpy", "2.4.0", "registry", DEFAULT),
        ("timm", "1.0.19", "git", "https://example.com/timm?rev=main#abcdef"),
        ("torch", "2.11.0", "registry", DEFAULT),
        ("torch", "2.11.0+cu128", "registry", CU128),
        ("torchvision", "0.26.0", "registry", DEFAULT),
    ]
    assert [package.dependencies for package in lock.packages[:3]] == [
        ("timm", "torch", "numpy"),  # that of an extra, too
        (),
        ("torch", "torchvision"),
    ]
    assert [str(package.backend) for package in lock.named("torch")] == ["None", "cu128"]
    assert lock.dependents("torch") == ("app", "timm", "torchvision")


@pytest.mark.parametrize(
    "text",
    [
        LOCK.replace("\n", "\r\n"),
        LOCK.replace('name = "numpy"\nversion = "2.4.0"\n', 'version = "2.4.0"\nname = "numpy"\n'),
        "# a comment\n" + LOCK,
        LOCK.replace("[[package]]", "[[ package ]]"),
        LOCK.replace('[[package]]\nname = "numpy"', '[[ package ]]\nname = "numpy"'),
    ],
    ids=["crlf", "keys in another order", "comment", "spaces", "spaces once"],
)
def test_other_writings_of_the_same_lock_read_the_same(text: str) -> None:
    rows = facts(read_lock(text))
    assert rows == facts(read_lock(LOCK))
    assert [row[-1] for row in rows] == tomllib.loads(LOCK)["package"]


def test_an_empty_lock_has_no_packages() -> None:
    assert read_lock('version = 1\nrequires-python = ">=3.11"\n') == Lock()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<<<<<<< HEAD\n" + LOCK, "uv.lock is not TOML"),
        (LOCK.replace('name = "numpy"\n', ""), "uv.lock: a package has no name or no source"),
        (LOCK.replace('source = { registry = "', 'source = [ "').replace('" }', '"'), "uv.lock is not TOML"),
        ("package = 1", "uv.lock: a package has no name or no source"),
        ("package = [1]", "uv.lock: a package has no name or no source"),
        ("\x00", "uv.lock is not TOML"),
    ],
)
def test_a_broken_lock_is_an_error_with_its_remedy(text: str, message: str) -> None:
    with pytest.raises(ProjectError) as caught:
        read_lock(text)
    assert str(caught.value).startswith(message)
    assert caught.value.hints == ("recreate it with `uv lock`",)


def test_a_transitive_package_from_the_default_index_is_stray() -> None:
    found = stray(read_lock(LOCK), read(tomllib.loads(PROJECT)), LINUX)
    assert [(package.name, package.version) for package in found] == [("torchvision", "0.26.0")]


def test_nothing_is_stray_where_no_source_holds() -> None:
    assert stray(read_lock(LOCK), read(tomllib.loads(PROJECT)), MAC) == ()
    assert stray(read_lock(LOCK), read({"project": {"dependencies": ["torch"]}}), LINUX) == ()


def test_a_build_from_another_backends_index_is_stray() -> None:
    lock = read_lock(
        LOCK.replace(
            f'source = {{ registry = "{CU128}" }}\nresolution', f'source = {{ registry = "{CPU}" }}\nresolution'
        )
    )
    found = stray(lock, read(tomllib.loads(PROJECT)), LINUX)
    assert [(package.name, package.location) for package in found] == [("torch", CPU), ("torchvision", DEFAULT)]


def test_the_default_index_may_serve_the_base_of_a_project_with_choices() -> None:
    text = PROJECT.replace(
        'torch = { index = "pt", marker = "sys_platform != \'darwin\'" }', 'torch = { index = "pt", extra = "cu128" }'
    )
    project = read(tomllib.loads(text + '\n[project.optional-dependencies]\ncu128 = ["torch"]\n'))
    lock = LOCK.replace(
        "\"sys_platform == 'darwin'\",\n]\n\n[[package]]", "\"extra != 'extra-3-app-cu128'\",\n]\n\n[[package]]"
    )
    assert lock != LOCK
    assert [package.name for package in stray(read_lock(lock), project, LINUX)] == ["torchvision"]


def test_another_projects_builds_are_not_pytorchs() -> None:
    more = """
[[package]]
name = "flashinfer-jit-cache"
version = "0.5.3+cu128"
source = { registry = "https://kernels.example.com/whl/cu128" }
"""
    assert [package.backend for package in read_lock(LOCK + more).named("flashinfer-jit-cache")] == [None]


def test_a_jetsons_pin_leaves_other_builds_astray() -> None:
    place = "https://example.com/jp6/cu126"
    found = stray(read_lock(LOCK.replace(CU128, place)), read(tomllib.loads(PROJECT.replace(CU128, place))), LINUX)
    assert [package.name for package in found] == ["torchvision"]
