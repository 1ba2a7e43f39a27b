"""Indexes: whose builds one serves, which URLs may be written, and what uv is given outside of pyproject.toml."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.project import Project
from uvtorch import files
from uvtorch.argv import parse
from uvtorch.errors import UsageError
from uvtorch.output import masked
from uvtorch.project.indexes import check_index_url, configured, covers, given, pytorch_backend, uv_toml, vendor

pytest_plugins = ["tests.index.fixtures"]

Make = Callable[[str], Project]
UNPINNED = '[project]\nname = "demo"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = ["torch"]\n'


def doctor(project: Project, **env: str) -> dict[str, dict[str, object]]:
    findings = json.loads(project.uvtorch("torch", "doctor", "--json", machine="h200-580", **env).out)["findings"]
    return {one["code"]: one for one in findings}


@pytest.mark.parametrize("place", ["uv.toml", "UV_INDEX", "UV_CONFIG_FILE"])
def test_an_index_outside_of_the_project_is_seen(empty: Make, place: str) -> None:
    project = empty(UNPINNED)
    url, env = f"{project.home.server.base}/cu126", {}
    text = f'[[index]]\nname = "outside"\nurl = "{url}"\n'
    text += f'[[index]]\nurl = "{project.home.server.default}"\ndefault = true\n'
    if place == "UV_INDEX":
        env = {place: f"outside={url}"}
    else:
        name = "uv.toml" if place == "uv.toml" else "other.toml"
        (project.path / name).write_text(text)
        place, env = name, {} if place == "uv.toml" else {place: "other.toml"}
    before = project.text
    fits = project.uvtorch("sync", "--auto", machine="h200-580", **env).must()
    assert "warning" not in fits.err
    assert project.text == before
    assert project.locked()["torch"] == {("2.14.1+cu126", "whl/cu126")}
    idle = project.uvtorch("sync", "--auto", **env).must()
    assert f"warning: {place} has uv take torch from {url}, but" in idle.err
    found = doctor(project, **env)["index-outside"]
    assert found["fix"] == ["uvtorch", "torch", "use", "cu126"]
    done = project.uvtorch("torch", "use", "cpu", **env).must()
    assert f"warning: {place} gives uv {url} for every package: remove it there" in done.err
    assert {index for _, index in project.locked()["torch"]} == {"whl/cpu"}
    assert doctor(project, **env)["index-outside"]["fix"] is None


def test_pins_are_found_beside_a_uv_toml_and_what_uv_says_of_that_is_explained(empty: Make) -> None:
    project = empty(UNPINNED)
    (project.path / "uv.toml").write_text("preview = false\n")
    done = project.uvtorch("torch", "use", "cu126").must()
    assert "warning: uv will warn that `index` is ignored beside uv.toml; where a source names it, as here" in done.err
    assert "will be ignored in favor of the `uv.toml` file" in done.err  # uv's words
    assert ("2.14.1+cu126", "whl/cu126") in project.locked()["torch"]
    assert "uv will warn" not in project.uvtorch("torch", "use", "cu126").must().err  # told once, with the edit


def test_a_uv_toml_above_that_a_pin_puts_out_of_force_is_told(empty: Make) -> None:
    project = empty(UNPINNED)
    above = project.path.parent / "uv.toml"
    above.write_text(f'[[index]]\nname = "house"\nurl = "{project.home.server.url}/house/wheels"\n')
    try:
        project.uv("lock").must()
        assert project.locked()["torch"] == {("2.11.0+cu128", "house/wheels")}  # that file counts
        done = project.uvtorch("torch", "use", "cu126").must()
        assert "uv reads pyproject.toml in the place of ../uv.toml from now on" in done.err
        assert {index for _, index in project.locked()["filelock"]} == {"simple"}  # and no longer
    finally:
        above.unlink()


def test_where_uv_looks_for_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, user, system = tmp_path / "a" / "b", tmp_path / "user", tmp_path / "system"
    for folder in (project, user / "uv", system / "uv"):
        folder.mkdir(parents=True)
    for path in (tmp_path / "a" / "uv.toml", user / "uv" / "uv.toml", system / "uv" / "uv.toml"):
        path.write_text(f'[[index]]\nurl = "https://download.pytorch.org/whl/cu126"\nname = "{path.parts[-2]}"\n')
    env = {"XDG_CONFIG_HOME": str(user), "XDG_CONFIG_DIRS": str(system)}

    def names(words: str = "sync", data: dict[str, object] | None = None, **more: str) -> list[str | None]:
        return [one.name for one in configured(str(project), data or {}, parse(words.split()), {**env, **more})]

    assert names() == ["a", "uv", "uv"]
    assert names(data={"tool": {"uv": {}}}) == ["uv", "uv"]  # its own [tool.uv] takes that place
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names(XDG_CONFIG_HOME="user") == ["a", "uv"]  # a relative one does not count, and so for all of XDG's
    assert files.of_user("user", "~/x") == str(tmp_path / "x")
    assert names(UV_NO_CONFIG="1") == names("--no-config sync") == []
    assert names(UV_CONFIG_FILE=str(tmp_path / "a" / "uv.toml")) == ["a"]
    (project / "uv.toml").write_text("not TOML")
    assert names() == ["uv", "uv"]
    assert uv_toml(str(project), {"tool": {"uv": {}}}) == str(project / "uv.toml")


def test_what_options_and_variables_name() -> None:
    env = {
        "UV_INDEX": "a=https://example.com/whl/cu126 https://example.com/simple",
        "UV_DEFAULT_INDEX": "https://x.com/s",
    }
    line = parse(["sync", "--default-index", "https://example.com/torch/cpu"])
    rows = [(one.origin, one.name, one.default, str(one.backend)) for one in given(line, env)]
    assert rows == [
        ("--default-index", None, True, "cpu"),
        ("UV_INDEX", "a", False, "cu126"),
        ("UV_INDEX", None, False, "None"),
    ]


def test_add_leaves_it_to_uv_where_a_variable_names_the_index(empty: Make) -> None:
    project = empty(UNPINNED.replace('"torch"', ""))
    project.uvtorch("add", "torch", "--no-sync", UV_INDEX=f"mine={project.home.server.base}/cu126").must()
    assert project.data["tool"]["uv"]["sources"] == {"torch": {"index": "mine"}}  # as `uv add --index` writes it


URLS = [
    ("https://download.pytorch.org/whl/cu128", "torch", "cu128", None),
    ("https://user:secret@download.pytorch.org/whl/nightly/cu130/", "torch", "nightly/cu130", None),
    ("https://download.pytorch.org/whl", None, None, None),
    ("https://download-r2.pytorch.org/whl/cpu/torch-2.9.0%2Bcpu-cp312-x.whl", "torch", "cpu", None),
    ("https://mirror.example.com/pytorch-wheels/cu126", "torchvision", "cu126", None),
    ("http://127.0.0.1:8000/whl/cu126", None, "cu126", None),
    ("wheels/torch-2.7.1+cpu-cp311-cp311-linux_x86_64.whl", "torch", "cpu", None),
    ("https://kernels.example.com/whl/cu128", "flashinfer-jit-cache", None, None),
    ("https://flashinfer.ai/whl/cu128", "torch", None, None),
    ("https://data.pyg.org/whl/torch-2.7.0+cu128.html", None, None, None),
    ("https://wheels.vllm.ai/nightly/cu130", "vllm", None, None),
    ("https://pypi.nvidia.com", "torch", None, None),
    ("https://example.com/corp/torch/simple", "torch", None, None),
    ("https://pypi.jetson-ai-lab.io/jp6/cu126/+simple", "torch", None, "jetson"),
    ("http://127.0.0.1:8000/jp6/cu126", "torch", None, "jetson"),
    ("https://developer.download.nvidia.com/compute/redist/jp/v61", "torch", None, "jetson"),
    ("https://pypi.jetson-ai-lab.io/sbsa/cu129", "torch", None, None),
    ("https://rocm.nightlies.amd.com/v2/gfx1151/", "torch", None, "gfx1151"),
    ("https://repo.amd.com/rocm/whl/gfx120X-all/", "torch", None, "gfx120X-all"),
    ("https://repo.example.com/rocm/manylinux/rocm-rel-7.0/", "torch", "rocm7.0", None),
    ("https://[broken/cu126", "torch", "cu126", None),
    ("", None, None, None),
]


@pytest.mark.parametrize(("url", "package", "backend", "devices"), URLS)
def test_an_index_is_known_by_its_url(url: str, package: str | None, backend: str | None, devices: str | None) -> None:
    found = pytorch_backend(url, package)
    assert (str(found) if found else None, vendor(url)) == (backend, devices)


@pytest.mark.parametrize(
    ("family", "gfx", "expected"),
    [
        ("gfx1151", "gfx1151", True),
        ("gfx1151", "gfx1150", False),
        ("gfx120X-all", "gfx1201", True),
        ("gfx120X-all", "gfx1100", False),
        ("gfx94X-dcgpu", "gfx942", True),
        ("gfx90X-dcgpu", "gfx90a", True),
    ],
)
def test_a_family_of_gpus_covers_its_members(family: str, gfx: str, expected: bool) -> None:
    assert covers(family, gfx) is expected


@pytest.mark.parametrize("url", ["https://mirror.example.com/whl", "http://127.0.0.1:8000/whl/", "http://localhost/x"])
def test_a_base_that_may_be_written(url: str) -> None:
    assert check_index_url(url, "UVTORCH_INDEX_BASE") == url


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("mirror", "not a URL"),
        ("https://", "not a URL"),
        ("https://[broken/whl", "not a URL"),
        ("ftp://mirror.example.com/whl", "not a URL"),
        ("file:///srv/whl", "not a URL"),
        ("http://mirror.example.com/whl", "not encrypted"),
        ("https://me:secret@mirror.example.com/whl", "credentials"),
        ("https://token@mirror.example.com/whl", "credentials"),
        ("https://mirror.example.com/whl?token=secret", "remove the query or the white space"),
        ("https://mirror.example.com/w hl", "remove the query or the white space"),
        ("https://mirror.example.com/whl\n", "remove the query or the white space"),
        ("https://mirror.example.com/\x1b[31m", "remove the query or the white space"),
    ],
)
def test_a_base_that_may_not(url: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault) as caught:
        check_index_url(url, "UVTORCH_INDEX_BASE")
    assert str(caught.value).startswith("UVTORCH_INDEX_BASE is ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:se@cret@example.com/whl", "https://****@example.com/whl"),
        ("see https://token@example.com/x and https://example.com/a@b", "see https://****@example.com/x and https://example.com/a@b"),
        ("git+ssh://git@example.com/x.git", "git+ssh://****@example.com/x.git"),
    ],
)  # fmt: skip
def test_credentials_are_not_shown(url: str, shown: str) -> None:
    assert masked(url) == shown
