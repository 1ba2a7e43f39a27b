"""`torch explain` and `torch list`: JSON as promised, tables that fit a terminal."""

import contextlib
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.choose.described import MACHINES
from uvtorch import catalog as catalogs
from uvtorch import hardware
from uvtorch.argv import parse
from uvtorch.choose import Request, choose
from uvtorch.errors import MachineError, UsageError
from uvtorch.session import Session, minor_version
from uvtorch.steps import verb as torch_verbs

NAMES = sorted(name for name in os.listdir(MACHINES) if name.endswith(".json"))


def session(env: Mapping[str, str], directory: Path) -> Session:
    return Session(parse(["--directory", str(directory), "torch", "explain"]), env)


def described(name: str) -> str:
    return os.path.join(MACHINES, f"{name}.json")


def printed(of: Session, *words: str) -> str:
    """What a verb prints on stdout where that is no terminal."""
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        torch_verbs.run([*words], of)
    return stdout.getvalue()


def run(tmp_path: Path, name: str, *requirements: str, as_json: bool = False, **env: str) -> str:
    words = ("--hardware", described(name), *(["--json"] if as_json else []), *requirements)
    return printed(session(env, tmp_path), "explain", *words)


def listed(as_json: bool = False, /, **filters: str) -> str:
    words = [word for name, value in filters.items() for word in (f"--{name}", value)]
    return printed(Session(parse([]), {}), "list", *(["--json"] if as_json else []), *words)


def test_json_says_what_was_chosen_and_why_each_other_was_not(tmp_path: Path) -> None:
    document = json.loads(run(tmp_path, "h100-570", "torch", as_json=True))
    assert document["schema"] == 1
    assert document["refusal"] is None
    chosen = {key: document["chosen"][key] for key in ("backend", "torch", "index_url", "native")}
    assert chosen == {
        "backend": "cu126",
        "torch": "2.14.1",
        "index_url": "https://download.pytorch.org/whl/cu126",
        "native": True,
    }
    assert {row["backend"] for row in document["candidates"]} == {str(one) for one in catalogs.load().builds}
    assert [row["backend"] for row in document["candidates"] if row["accepted"]] == ["cu126"]
    assert all(row["reason"] for row in document["candidates"])


def test_json_of_a_refusal(tmp_path: Path) -> None:
    document = json.loads(run(tmp_path, "h100-535", "torch==2.15.0", as_json=True))
    assert document["chosen"] is None
    assert document["refusal"].startswith("torch 2.15.0 needs a driver >= 580; this machine has 535.183.01.")
    assert document["hints"]


def test_json_of_a_version_to_ask_for(tmp_path: Path) -> None:
    document = json.loads(run(tmp_path, "h200-580", "torch>=2.16", as_json=True))
    assert (document["chosen"], document["refusal"]) == (None, None)
    assert document["ask"] == ["cu130", "cu132", "cu134"]


def test_the_index_base_is_honoured(tmp_path: Path) -> None:
    text = run(tmp_path, "h100-570", as_json=True, UVTORCH_INDEX_BASE="https://mirror.example.com/whl/")
    assert json.loads(text)["chosen"]["index_url"] == "https://mirror.example.com/whl/cu126"


@pytest.mark.parametrize("name", NAMES)
def test_the_report_is_ascii_in_100_columns_and_names_the_choice(tmp_path: Path, name: str) -> None:
    text = run(tmp_path, name.removesuffix(".json"), "torch", "torchvision")
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 100
    lines = text.splitlines()
    assert lines[0].startswith(("chosen   ", "refused  "))
    marked = [line for line in lines if line.startswith("* ")]
    assert len(marked) == any(line.startswith("chosen ") for line in lines)


def test_the_project_adds_its_requirements_python_and_index_base(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "0"\nrequires-python = ">=3.9,<3.10"\n'
        'dependencies = ["torch<2.8", "requests"]\n'
        '[tool.uvtorch]\nindex-base = "https://example.com/whl"\n'
    )
    chosen = json.loads(run(tmp_path, "h100-570", "torchvision", as_json=True))["chosen"]
    assert (chosen["backend"], chosen["torch"]) == ("cu128", "2.7.1")
    assert chosen["index_url"] == "https://example.com/whl/cu128"
    # A requirement on the command line takes the place of the project's.
    chosen = json.loads(run(tmp_path, "h100-570", "torch==2.8.0", as_json=True))["chosen"]
    assert chosen["torch"] == "2.8.0"
    (tmp_path / ".python-version").write_text("3.14\n")
    assert json.loads(run(tmp_path, "h100-570", as_json=True))["chosen"] is None


def test_a_request_for_another_implementation_of_python_is_read(tmp_path: Path) -> None:
    pins = {"3.12": "3.12", "3": None, "cpython@3.12.4": "3.12", "cpython-3.12.4-linux-x86_64-gnu": "3.12"}
    pins |= {"cp312": "3.12", "3.13t": "3.13t", "3.13.1t": "3.13t", "cpython-3.13.1+freethreaded-linux": "3.13t"}
    pins |= {"pypy": "pypy", "pypy@3.10": "pypy3.10", "pp310": "pypy3.10", "graalpy@3.11": "graalpy3.11"}
    pins |= {">=3.12": None, "3.12,<3.14": None, "/usr/bin/python3.12": None, "3.14.0rc1": "3.14"}
    assert {pin: minor_version(pin) for pin in pins} == pins
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0"\ndependencies = ["torch"]\n')
    (tmp_path / ".python-version").write_text("graalpy@3.11\n")
    assert "refused  PyTorch is built for CPython only, and this project's Python is graalpy3.11." in run(
        tmp_path, "h100-570"
    )
    (tmp_path / ".python-version").unlink()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/pyvenv.cfg").write_text("implementation = PyPy\nversion_info = 3.10.16\n")
    assert session({}, tmp_path).python == "pypy3.10"


def test_what_the_project_pins_is_told_beside_the_choice(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "0"\ndependencies = ["torch"]\n'
        '[tool.uv.sources]\ntorch = { index = "mine" }\n'
        '[[tool.uv.index]]\nname = "mine"\nurl = "https://example.com/whl/cu121"\nexplicit = true\n'
    )
    lines = run(tmp_path, "h100-570").splitlines()
    assert any(line.startswith("chosen   cu126, torch 2.14.1") for line in lines)
    assert any(line.startswith("kept     cu121, which the project pins") for line in lines)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0"\n[tool.uvtorch]\nbackend = "cpu"\n')
    assert "kept     cpu, which [tool.uvtorch] names" in run(tmp_path, "h100-570")


def test_bad_input_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(tmp_path, "h100-570", "torch==")
    with pytest.raises(MachineError):
        run(tmp_path, "no-such-machine")


def test_the_machines_that_uvtorch_describes_are_named_and_chosen_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for verb in ("explain", "detect", "backends"):
        assert torch_verbs.run([verb, "--hardware", "list"], session({}, tmp_path)) == 0
        rows = dict(re.findall(r"^(\S+) +(.*(?:\n .*)*)", capsys.readouterr().out, re.MULTILINE))
        assert rows.keys() - {"name"} == hardware.described().keys()
        assert "GTX 1080 (6.1); driver 580.95.05 (CUDA 13.0)" in " ".join(rows["gtx1080"].split())
    text = printed(session({}, tmp_path), "explain", "torch", "--hardware", "gtx1080", "--compare")
    assert "chosen   cu126, torch 2.14.1: driver 580.95.05" in text
    assert "\nuv add   takes cu132, torch 2.15.0: does not run here; PyPI's torch" in text
    assert "\nuv pip   `--torch-backend=auto` takes cu132, torch 2.15.0: does not run here; torch" in text
    text = printed(session({}, tmp_path), "explain", "torch", "--hardware", "rtx5090", "--json", "--compare")
    compared = json.loads(text)["compare"]
    assert [(row["backend"], row["torch"], row["fits"]) for row in compared] == [
        ("cu132", "2.15.0", False),
        ("cu129", "2.13.0", True),
    ]
    # A file of that name comes first.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gtx1080").write_bytes(Path(described("cpu-only")).read_bytes())
    assert "no GPU" in printed(session({}, tmp_path), "explain", "--hardware", "gtx1080")
    with pytest.raises(MachineError) as error:
        printed(session({}, tmp_path), "explain", "--hardware", "gtx1090")
    assert error.value.hints[-1].startswith("`uvtorch torch explain --hardware list`")


@pytest.mark.parametrize("name", hardware.described())
def test_a_choice_is_made_for_every_described_machine(name: str) -> None:
    decision = choose(hardware.described()[name], Request(("torch",)), catalogs.load())
    assert (decision.backend is None) == (name == "jetson-orin")


def test_a_described_machine_is_not_detected(tmp_path: Path) -> None:
    text = run(tmp_path, "cpu-only", UV_CUDA_DRIVER_VERSION="garbage")
    assert "no GPU" in text


def test_list_prints_every_release_in_words_and_the_date() -> None:
    catalog = catalogs.load()
    text = listed()
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 100
    assert f"as of {catalog.as_of}" in text.splitlines()[0]
    assert all(f"\ntorch {release}, " in text for release in catalog.releases)
    assert re.search(r"\n  Linux x86_64 +cpu\(\?\) xpu\(\?\) cu130\(\?\) cu132\(\?\)\n", text)
    assert re.search(r"\n  Windows on Arm +cpu\(\?\)\n", text)


@pytest.mark.parametrize(
    ("filters", "releases", "lines"),
    [
        ({"release": "2.14"}, 2, None),
        ({"release": "2.14.1", "backend": "cu126"}, 1, ["Linux x86_64 cu126", "Linux aarch64 cu126", "Windows cu126"]),
        ({"backend": "cu129", "platform": "windows"}, 2, None),
        ({"release": "2.1", "platform": "macos_x86_64"}, 3, ["macOS on Intel cpu"] * 3),
    ],
)
def test_list_filters(filters: dict[str, str], releases: int, lines: list[str] | None) -> None:
    text = listed(**filters)
    assert len([line for line in text.splitlines() if line.startswith("torch ")]) == releases
    rows = [" ".join(line.split()) for line in text.splitlines() if line.startswith("  ")]
    assert lines is None or rows[1:] == lines
    assert len(json.loads(listed(True, **filters))["releases"]) == releases


def test_a_filter_that_nothing_meets_is_one_error() -> None:
    for filters, told, hint in (
        (
            {"release": "2.15", "backend": "cu126"},
            "no build in the catalog meets --release 2.15 --backend cu126",
            "`uvtorch torch list --backend cu126` shows all of that",
        ),
        ({"release": "9.9", "backend": "cu126"}, "the catalog has no release 9.9", "2.14.1 2.15.0"),
        ({"backend": "cu999"}, "the catalog has no backend cu999", "cu130 cu132"),
        ({"backend": "CU126"}, "--backend: `CU126` is not a backend", "did you mean `cu126`?"),
        ({"backend": ""}, "--backend needs a backend", "test/cu130"),
        ({"backend": "cpu", "platform": "beos"}, "the catalog has no platform beos", "macos_x86_64"),
    ):
        with pytest.raises(UsageError) as refusal:
            listed(**filters)
        assert (str(refusal.value), len(refusal.value.hints)) == (told, 1)
        assert refusal.value.hints[0].endswith(hint)


def test_explain_says_the_date_of_the_catalog(tmp_path: Path) -> None:
    assert f"catalog  as of {catalogs.load().as_of}" in run(tmp_path, "h100-570").splitlines()
    assert json.loads(run(tmp_path, "h100-570", as_json=True))["catalog"] == catalogs.load().as_of


def test_list_as_json_says_all_of_the_matrix() -> None:
    catalog = catalogs.load()
    document = json.loads(listed(True))
    assert document["schema"] == 1
    assert [row["torch"] for row in document["releases"]] == list(reversed(catalog.releases))
    for row in document["releases"]:
        for one in row["backends"]:
            cells = next(index for backend, index in catalog.builds.items() if str(backend) == one["backend"])
            assert {platform: set(build["pythons"]) for platform, build in one["platforms"].items()} == {
                platform: build.pythons for platform, build in cells[row["torch"]].items()
            }
