"""Scripts with inline metadata on the real uv: what is pinned is what runs, and whose file it is counts."""

from pathlib import Path

import pytest

from tests.index.project import Done, Home, Project

pytest_plugins = ["tests.index.fixtures"]


@pytest.fixture
def place(home: Home, tmp_path: Path) -> Project:
    """A directory without a project."""
    return Project(home, tmp_path)


def script(place: Project, name: str, *packages: str) -> Path:
    listed = ", ".join(f'"{package}"' for package in packages)
    path = place.path / name
    show = 'import importlib.metadata as m\nprint("RUNS", m.version("torch"))\n'
    path.write_text(f'# /// script\n# requires-python = ">=3.11"\n# dependencies = [{listed}]\n# ///\n{show}')
    return path


def test_a_torch_that_comes_along_is_named_and_pinned_and_runs(place: Project) -> None:
    path = script(place, "t.py", "any-models")
    place.uv("run", "t.py").must()  # an older build is there already
    done = place.uvtorch("run", "--auto", "--no-project", "t.py").must()
    assert done.out == "RUNS 2.15.0+cpu\n"
    assert done.ours[0].startswith("uvtorch: torch, torchvision came along: using cpu (torch 2.15.0)")
    assert done.ours[1].startswith("uvtorch: t.py names its index from now on")
    assert place.uvtorch("run", "--auto", "t.py").must().err == ""
    text = path.read_text()
    assert '"any-models", "torch", "torchvision"' in text
    place.uvtorch("torch", "use", "cu126", "--script", "t.py").must()
    assert place.uv("run", "t.py").must().out == "RUNS 2.14.1+cu126\n"
    place.uvtorch(*done.ours[1].split("`")[1].split()[1:]).must()  # the command that it named
    assert "index" not in path.read_text()
    assert place.uv("run", "t.py").must().out == "RUNS 2.15.0\n"


def test_the_release_is_the_one_that_uv_resolves(place: Project) -> None:
    path = script(place, "capped.py", "torch", "capped-models")
    done = place.uvtorch("run", "--auto", "capped.py", machine="h200-580").must()
    assert done.out == "RUNS 2.11.0+cu130\n"
    assert "/cu130" in path.read_text()


def test_an_environment_that_lags_behind_its_pin(place: Project) -> None:
    path = script(place, "s.py", "torch")
    place.uvtorch("run", "--torch-backend", "cu126", "s.py").must()
    path.write_text(path.read_text().replace("cu126", "cpu"))
    assert place.uv("run", "s.py").must().out == "RUNS 2.14.1+cu126\n"  # why this matters
    report = place.uvtorch("torch", "doctor", "--script", "s.py").must(1).out
    assert "has torch 2.14.1+cu126 (built for cu126), and the script pins cpu." in " ".join(report.split())
    assert place.uvtorch("run", "--auto", "s.py").must().out == "RUNS 2.15.0+cpu\n"
    path.write_text(path.read_text().replace("cpu", "cu130"))
    (fix,) = (
        row.partition("fix: ")[2]
        for row in place.uvtorch("torch", "doctor", "--script", "s.py").out.splitlines()
        if "--reinstall-package" in row
    )
    place.uv(*fix.split()[1:]).must()
    assert place.uv("run", "s.py").must().out == "RUNS 2.15.0+cu130\n"


def test_a_lock_of_its_own_is_kept_up(place: Project) -> None:
    script(place, "s.py", "torch")
    place.uv("lock", "--script", "s.py").must()
    place.uvtorch("torch", "use", "cu126", "--script", "s.py").must()
    assert ("2.14.1+cu126", "whl/cu126") in place.locked("s.py.lock")["torch"]
    place.uv("lock", "--check", "--script", "s.py").must()


def test_explain_speaks_of_the_script(place: Project) -> None:
    script(place, "s.py", "torch==2.9.1")
    assert "request  torch==2.9.1; Python" in place.uvtorch("torch", "explain", "--script", "s.py").must().out
    (place.path / "bare.py").write_text("print(1)\n")
    assert "request  torch\n" in place.uvtorch("torch", "explain", "--script", "bare.py").must().out


def test_a_script_that_is_not_ours_to_edit_is_run_as_it_is(place: Project) -> None:
    path = script(place, "s.py", "torch")
    text = path.read_text()
    path.chmod(0o444)

    def told(done: Done, what: str) -> None:
        assert done.out == "RUNS 2.15.0\n"
        assert f"warning: {what}" in done.err

    told(place.uvtorch("run", "--auto", "s.py").must(), "s.py is read-only: which PyTorch build it gets is not chosen")
    refused = place.uvtorch("run", "--torch-backend", "cpu", "s.py").must(2)  # asked for: not dropped in silence
    assert "s.py is read-only" in refused.err
    told(place.uvtorch("run", "--auto", "-", stdin=text).must(), "a script from standard input is run as it is")
    gone = place.uvtorch("run", "--auto", f"{place.home.server.url}/none.py")
    assert "warning: a script from a URL is run as it is" in gone.err
    assert path.read_text() == text


@pytest.mark.parametrize("text", ['# /// script\n# dependencies = ["numpy"]\n# ///\n', "print(1)\n"])
def test_a_script_without_torch_or_without_a_block(place: Project, text: str) -> None:
    path = place.path / "n.py"
    path.write_text(text)
    refused = place.uvtorch("torch", "use", "cpu", "--script", "n.py").must(2)
    assert path.read_text() == text
    error, hint = refused.err.splitlines()
    assert error == "error: n.py requires no PyTorch package"
    assert place.uvtorch("run", "--auto", "n.py").must().code == 0
    place.uvtorch(*hint.split("`")[1].split()[1:]).must()
    assert "/cpu" in path.read_text()


def test_what_must_not_change_is_told_with_a_command_for_the_script(place: Project) -> None:
    path = script(place, "s.py", "torch")
    before = path.read_text()
    refused = place.uvtorch("run", "--auto", "--locked", "s.py").must(2)
    assert path.read_text() == before
    place.uvtorch(*refused.err.splitlines()[1].split("`")[1].split()[1:]).must()
    assert place.uvtorch("run", "--auto", "s.py").must().out == "RUNS 2.15.0+cpu\n"
