"""The catalog holds together, and its validation would notice if it did not."""

import re
from pathlib import Path

import pytest

from tests.choose.catalog_faults import faults as faults_of
from tests.choose.catalog_faults import unsure
from uvtorch import catalog as catalogs
from uvtorch.argv import parse as parse_line
from uvtorch.backend import PLATFORMS, Backend, parse
from uvtorch.errors import UsageError
from uvtorch.packages import roles
from uvtorch.session import Session

CATALOG = catalogs.load()


def backend(name: str) -> Backend:
    found = parse(name)
    assert found
    return found


def test_the_catalog_holds_together() -> None:
    assert faults_of(CATALOG) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("builds.toml", '"2.15.0" = "2026-10-28"', '"2.15.0" = "2026-10-28"\n"2.1.9" = "2023-01-01"', "not in order"),
        ("builds.toml", '["2.15.0", "linux_aarch64", "3.11', '["2.15.0", "linux_mips", "3.11', "unknown platform"),
        ("builds.toml", '"3.11-3.13", "url", "URL"]', '"3.11-3.19", "url", "URL"]', "unknown Python"),
        ("builds.toml", '"cu132", "3.11', '"cu134", "3.11', "of cu134, which has no such release"),
        (
            "kernels.toml",
            '["cu132", "2.12.0-2.15.0", "linux_aarch64"',
            '["cu132", "2.12.0-2.14.1", "linux_aarch64"',
            "no row",
        ),
        ("kernels.toml", '["cu126", "2.6.0", "linux_aarch64"', '["cu126", "2.5.0", "linux_aarch64"', "no such build"),
        ("kernels.toml", "gfx1030 gfx1031 gfx1032", "gfx1030 1031 gfx1032", "no gfx name"),
        ("kernels.toml", '["rocm7.0 rocm7.1", ', '["rocm7.0", ', "no row of devices"),
        ("drivers.toml", '11 = { linux = "450.80.02", windows = "452.39" }', "", "no minimum driver"),
        ("drivers.toml", '580 = "13.0", 590 = "13.1"', '580 = "13.1", 590 = "13.0"', "does not rise"),
        ("wheels.toml", '["torchaudio", "2.11.0",', '["torchaudio", "2.11.9",', "unknown version"),
    ],
)
def test_an_impossible_or_incomplete_row_is_a_fault(file: str, old: str, new: str, fault: str) -> None:
    texts = catalogs.texts()
    assert old in texts[file]
    faults = faults_of(catalogs.read({**texts, file: texts[file].replace(old, new)}))
    assert any(fault in found for found in faults), faults


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("builds.toml", "cu132 = [", "cu1 = ["),
        ("builds.toml", '["2.14.0-2.15.0", "windows_arm64"', '["2.15.0-2.14.0", "windows_arm64"'),
        ("builds.toml", '["2.14.0-2.15.0", "windows_arm64"', '["2.13.0-2.15.0", "windows_arm64"'),
        ("builds.toml", '["2.14.0-2.15.0", "windows_arm64"', '["2.14.0-2.99.0", "windows_arm64"'),
        ("kernels.toml", '["cu117", "2.0.0-2.0.1", "windows_amd64"', '["cu117", "2.0.0-2.0.1", "linux_x86_64"'),
    ],
)
def test_a_row_that_cannot_be_read_is_not_loaded(file: str, old: str, new: str) -> None:
    texts = catalogs.texts()
    assert old in texts[file]
    with pytest.raises(UsageError, match=f"the catalog's {file}, "):
        catalogs.read({**texts, file: texts[file].replace(old, new, 1)})


def test_each_row_says_how_sure_it_is_and_where_it_comes_from() -> None:
    texts = catalogs.texts()
    assert unsure(texts) == []
    for file, old, new in (
        ("builds.toml", '"inferred", "TI"]', '"perhaps", "TI"]'),
        ("builds.toml", '"inferred", "TI"]', '"inferred", ""]'),
        ("wheels.toml", '"verified", "pytorch#193651', '"true", "pytorch#193651'),
    ):
        assert old in texts[file]
        assert len(unsure({**texts, file: texts[file].replace(old, new, 1)})) == 1


def test_another_copy_of_the_catalog_is_read_and_may_have_some_files_only(tmp_path: Path) -> None:
    text = catalogs.texts()["builds.toml"]
    (tmp_path / "builds.toml").write_text(text.replace(CATALOG.as_of, "2027-01-15"), encoding="utf-8")
    assert catalogs.load(str(tmp_path)).as_of == "2027-01-15"
    assert catalogs.load(str(tmp_path)).kernels == CATALOG.kernels


@pytest.mark.parametrize("where", ["environment", "own", "root", "both"])
def test_the_environment_and_the_configuration_name_another_copy(tmp_path: Path, where: str) -> None:
    """A path in a file is meant from that file's folder; the environment counts before it."""
    text = catalogs.texts()["builds.toml"]
    for name in ("member/tables", "tables", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "builds.toml").write_text(text.replace(CATALOG.as_of, name), encoding="utf-8")
    said = {"own": "", "root": "", where: '[tool.uvtorch]\ncatalog = "tables"\n'}
    if where == "both":
        said = dict.fromkeys(("own", "root"), said["both"])
    workspace = '[project]\nname = "root"\nversion = "0"\n[tool.uv.workspace]\nmembers = ["member"]\n'
    (tmp_path / "pyproject.toml").write_text(workspace + said["root"])
    (tmp_path / "member/pyproject.toml").write_text('[project]\nname = "m"\nversion = "0"\n' + said["own"])
    env = {"UVTORCH_CATALOG": str(tmp_path / "elsewhere")} if where == "environment" else {}
    session = Session(parse_line(["--directory", str(tmp_path / "member"), "torch", "list"]), env)
    expected = {"environment": "elsewhere", "own": "member/tables", "root": "tables", "both": "member/tables"}
    assert session.catalog.as_of == expected[where]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "builds.toml",
            '"2.14.0-2.15.0", "windows_arm64"',
            '"2.14.0-2.99.0", "windows_arm64"',
            "builds.toml, cpu, row",
        ),
        ("kernels.toml", '"cu117", "2.0.0-2.0.1"', '"cu117"', "kernels.toml, cuda, row"),
        ("wheels.toml", "oldest = [", "eldest = [", "'oldest' is missing"),
        ("drivers.toml", "[minimum]", "[minimum", "drivers.toml"),
        ("kernels.toml", '"3.7 5.0 6.0', '"5.0 3.7 6.0', "capabilities out of order"),
        ("drivers.toml", '12 = { linux = "525.60.13", windows = "527.41" }', "", "no minimum driver for CUDA 12"),
        ("drivers.toml", '[forward]\n11 = "450.80.02"', "[forward]", "forward compatibility with CUDA 11"),
    ],
)
def test_another_copy_that_is_wrong_is_one_error_with_file_and_row(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    text = catalogs.texts()[file]
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(said)):
        catalogs.load(str(tmp_path))


def test_another_copy_that_is_incomplete_is_one_error_that_names_the_file(tmp_path: Path) -> None:
    text = catalogs.texts()["builds.toml"]
    newest = '"2.15.0" = "2026-10-28"'
    (tmp_path / "builds.toml").write_text(text.replace(newest, f'{newest}\n"2.16.0" = "2026-12-20"'), encoding="utf-8")
    with pytest.raises(UsageError, match=r"is incomplete: builds.toml: 2\.16\.0 has no CPU build \(and 1 more\)"):
        catalogs.load(str(tmp_path))


def test_a_directory_without_a_catalog_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no catalog"):
        catalogs.load(str(tmp_path))


def served(name: str, release: str) -> set[str]:
    return set(CATALOG.builds[backend(name)].get(release, {}))


def test_no_wheel_where_one_would_be_expected() -> None:
    assert "linux_aarch64" not in served("cu126", "2.7.1") | served("cu126", "2.8.0")
    assert "linux_aarch64" in served("cu126", "2.6.0") & served("cu126", "2.9.0")
    assert "linux_aarch64" not in served("cu128", "2.8.0")
    assert "windows_amd64" in served("cu129", "2.9.0")
    assert "windows_amd64" not in served("cu129", "2.9.1") | served("cu129", "2.13.0")
    assert served("cu129", "2.12.0") == set()
    assert served("cu126", "2.15.0") == set()
    assert all(
        served(str(rocm), release) == {"linux_x86_64"}
        for rocm, index in CATALOG.builds.items()
        if rocm.family == "rocm"
        for release in index
    )
    assert "macos_x86_64" in served("cpu", "2.2.2")
    assert "macos_x86_64" not in served("cpu", "2.3.0")
    assert not any(name.startswith("macos") for name in served("cu126", "2.14.1") | served("xpu", "2.14.1"))


@pytest.mark.parametrize(
    ("release", "platform", "expected"),
    [
        ("2.0.1", "linux_x86_64", "cu117"),
        ("2.4.1", "linux_x86_64", "cu121"),
        ("2.6.0", "linux_x86_64", "cu124"),
        ("2.7.1", "linux_x86_64", "cu126"),
        ("2.10.0", "linux_x86_64", "cu128"),
        ("2.14.1", "linux_x86_64", "cu130"),
        ("2.15.0", "linux_x86_64", "cu132"),
        ("2.10.0", "linux_aarch64", "cpu"),
        ("2.11.0", "linux_aarch64", "cu130"),
        ("2.15.0", "windows_amd64", "cpu"),
        ("2.15.0", "macos_arm64", "cpu"),
    ],
)
def test_pypis_own_wheel(release: str, platform: str, expected: str) -> None:
    assert str(CATALOG.pypi[release][platform][0]) == expected


def test_every_release_pairs_with_a_torchvision_and_a_torchaudio() -> None:
    for package in ("torchvision", "torchaudio"):
        paired = {release for torch in CATALOG.pairs[package].values() for release in torch}
        assert paired == set(CATALOG.releases)


def test_companions_are_known_as_packages_of_a_pytorch_index() -> None:
    names = {package for *_, packages in CATALOG.companions for package in packages}
    assert all(roles().get(name) == "companion" for name in names)


def test_unseen_builds_are_not_listed_as_builds() -> None:
    for release, backends in CATALOG.unseen.items():
        assert not any(release in CATALOG.builds.get(one, {}) for one in backends)


def test_platforms_of_the_catalog_are_those_of_backends() -> None:
    used = {platform for index in CATALOG.builds.values() for cells in index.values() for platform in cells}
    assert used == set(PLATFORMS)
