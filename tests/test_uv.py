"""Finding the real uv, never uvtorch under its name; a uv that is too old, or cannot be started; asking it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Uvtorch
from tests.recording_uv import RecordingUv
from uvtorch import uv
from uvtorch.errors import ProjectError, UvNotFound, UvTooOld

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs of POSIX")


@pytest.fixture
def programs(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a program called uv in a directory of this name."""

    def make(directory: str) -> Path:
        path = tmp_path / directory / "uv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\nexit 0\n")
        path.chmod(0o755)
        return path

    return make


def path_of(*programs: Path) -> str:
    return os.pathsep.join(str(program.parent) for program in programs)


def test_the_order(programs: Callable[[str], Path]) -> None:
    chosen, calling, first, second = map(programs, ("chosen", "calling", "first", "second"))
    env = {"UVTORCH_UV": str(chosen), "UV": str(calling), "PATH": path_of(first, second)}
    assert uv.find(env) == str(chosen)
    del env["UVTORCH_UV"]
    assert uv.find(env) == str(calling)
    del env["UV"]
    assert uv.find(env) == str(first)
    first.unlink()
    assert uv.find(env) == str(second)


def test_uvtorch_uv_may_be_a_name_on_path(programs: Callable[[str], Path]) -> None:
    program = programs("bin").rename(programs("bin").with_name("uv-nightly"))
    assert uv.find({"UVTORCH_UV": "uv-nightly", "PATH": str(program.parent)}) == str(program)


@pytest.mark.parametrize("text", ["", "uv", "./uv", "/nowhere/uv"])
def test_a_uv_variable_that_names_no_program_does_not_count(text: str, programs: Callable[[str], Path]) -> None:
    program = programs("bin")
    assert uv.find({"UV": text, "PATH": path_of(program)}) == str(program)


def test_what_cannot_be_run_is_passed_over(programs: Callable[[str], Path]) -> None:
    plain, directory, broken, program = map(programs, ("plain", "directory", "broken", "bin"))
    plain.chmod(0o644)
    directory.unlink()
    directory.mkdir()
    broken.unlink()
    broken.symlink_to("nowhere")
    assert uv.find({"PATH": path_of(plain, directory, broken, program)}) == str(program)


@pytest.mark.parametrize("path", ["/nowhere:", "", ".", ":/nowhere", "../bin"])
def test_entries_on_path_that_are_not_absolute_are_passed_over(
    path: str, programs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in a project that was cloned must not be run as uv."""
    monkeypatch.chdir(programs("bin").parent)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(UvNotFound):
        uv.find({"PATH": path})


@pytest.mark.parametrize("value", ["/nowhere/uv", "./uv", "no-such-uv", "/etc/passwd", "/"])
def test_a_wrong_uvtorch_uv_is_an_error(value: str, programs: Callable[[str], Path], uvtorch: Uvtorch) -> None:
    """It was said where uv is; another one would be a guess."""
    done = uvtorch("pip", "list", env={"UVTORCH_UV": value, "PATH": path_of(programs("bin"))})
    assert done.refused() == f"UVTORCH_UV={value} is not a program that can be run"


def test_a_uv_beside_the_interpreter_is_the_last_resort(
    programs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the extra `uvtorch[uv]` works without an activated environment."""
    beside, on_path = programs("venv"), programs("bin")
    monkeypatch.setattr(sys, "executable", str(beside.with_name("python")))
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert uv.find({"PATH": path_of(on_path)}) == str(on_path)
    assert uv.find({"PATH": "/nowhere"}) == str(beside)


def test_a_uv_beside_the_script_too(programs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    beside = programs("bin")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(sys, "argv", [str(beside.with_name("uvtorch"))])
    assert uv.find({"PATH": "/nowhere"}) == str(beside)
    monkeypatch.setattr(sys, "argv", ["uvtorch"])
    monkeypatch.chdir(beside.parent)
    with pytest.raises(UvNotFound):
        uv.find({"PATH": "/nowhere"})


def test_none_on_the_machine_is_one_error_that_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from uvtorch import cli

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(sys, "argv", ["uvtorch", "pip", "list"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.run() == 2
    out, err = capsys.readouterr()
    first, *hints = err.splitlines()
    assert (out, first) == ("", "error: there is no uv on PATH")
    assert len(hints) == 3
    assert all(hint.startswith("hint: ") for hint in hints)
    assert "pip install uv" in err
    assert "UVTORCH_UV=" in err
    for words, ours in ((["--version"], "uvtorch 0."), (["--help"], "uvtorch adds:"), (["add", "-h"], "--dry-run")):
        monkeypatch.setattr(sys, "argv", ["uvtorch", *words])
        assert cli.run() == 2
        out, err = capsys.readouterr()
        assert ours in out
        assert err.startswith("error: there is no uv on PATH")


def symlink(uvtorch: Path, path: Path) -> None:
    path.symlink_to(uvtorch)


def copy(uvtorch: Path, path: Path) -> None:
    shutil.copy(uvtorch, path)


def hard_link(uvtorch: Path, path: Path) -> None:
    os.link(uvtorch, path)


def wrapper(text: str) -> Callable[[Path, Path], None]:
    def write(uvtorch: Path, path: Path) -> None:
        path.write_text(text.format(python=sys.executable, uvtorch=uvtorch))
        path.chmod(0o755)

    return write


OURSELVES = {
    "symlink": symlink,
    "copy": copy,
    "hard link": hard_link,
    "wrapper": wrapper('#!/bin/sh\nexec {uvtorch} "$@"\n'),
    "quoted": wrapper("#!/bin/sh\n'{uvtorch}' $@\n"),
    "by name": wrapper('#!/bin/sh\nPATH="${{PATH}}:/x"; exec uvtorch "$@"\n'),
    "module": wrapper('#!/bin/bash\nexec {python} -m uvtorch "$@"\n'),
    "module, closely": wrapper('#!/bin/sh\nexec {python} -muvtorch ${{1+"$@"}}\n'),
    "python": wrapper("#!{python}\nimport sys\nfrom uvtorch import cli\nsys.exit(cli.main())\n"),
    "pip 23": wrapper(
        "#!{python}\n# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom uvtorch.cli import main\nmain()\n"
    ),
    "variable": wrapper('#!/bin/sh\nREAL={uvtorch}\n"$REAL" "$@"\n'),
}


@pytest.mark.parametrize("kind", OURSELVES)
def test_uvtorch_under_uvs_name_first_on_path(kind: str, launcher: Path, uvtorch: Uvtorch, tmp_path: Path) -> None:
    """It must not call itself, not even once around: it would go on for ever."""
    ours = tmp_path / "ours" / "uv"
    ours.parent.mkdir()
    try:
        OURSELVES[kind](launcher, ours)
    except OSError:
        pytest.skip("no hard link from here to there")
    real = RecordingUv(tmp_path / "real" / "uv")
    env = {"PATH": os.pathsep.join([path_of(ours, real.path), str(launcher.parent), os.defpath])}
    assert uvtorch("pip", "list", env=env) == (0, b"", b"")
    assert subprocess.run([ours, "pip", "tree"], env=env, cwd=tmp_path, timeout=30, check=True).returncode == 0
    variable = {**env, "UV": str(ours)}
    assert uvtorch("pip", "check", env=variable) == (0, b"", b"")
    assert [call.argv[1] for call in real.calls] == [b"list", b"tree", b"check"]
    done = uvtorch("pip", "list", env={**env, "UVTORCH_UV": str(ours)})
    assert done.refused() == f"UVTORCH_UV={ours} is uvtorch itself"


def test_only_uvtorch_under_uvs_name_is_told_apart_from_no_uv(
    launcher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(sys, "argv", [str(launcher)])
    link = tmp_path / "uv"
    link.symlink_to(launcher)
    with pytest.raises(UvNotFound, match=f"{link} is uvtorch itself"):
        uv.find({"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    "text",
    [
        '#!/bin/sh\nexec /home/me/uvtorch/.venv/bin/uv "$@"\n',
        '#!/bin/sh\n# as uvtorch wants it\nexec /opt/uv "$@"\n',
        '#!/bin/sh\nexport UVTORCH_UV=x; exec /opt/uv "$@"\n',
        "#!/home/me/uvtorch/bin/python\nimport uv\n",
        '#!/bin/sh\nexec /opt/uvtorch-tools/uv "$@"\n',
    ],
)
def test_a_wrapper_of_the_real_uv_may_speak_of_uvtorch(text: str, programs: Callable[[str], Path]) -> None:
    program = programs("bin")
    program.write_text(text)
    assert uv.find({"PATH": path_of(program)}) == str(program)


def test_the_real_uv_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    path = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv")
    assert path, "the extra `test` installs uv"
    assert uv.find({"PATH": os.path.dirname(path)}) == path


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "Exec format error"), (b"#!/nowhere/sh\n", "No such file or directory"), (b"\x7fELF", "Exec format error")],
)
@pytest.mark.parametrize("arguments", [["pip", "list"], ["sync", "--help"]], ids=["exec", "wait"])
def test_a_uv_that_cannot_be_started_is_an_error(
    content: bytes, reason: str, arguments: list[str], uvtorch: Uvtorch, tmp_path: Path
) -> None:
    program = tmp_path / "uv"
    program.write_bytes(content)
    program.chmod(0o755)
    assert uvtorch(*arguments, uv=program).refused() == f"cannot start {program}: {reason}"
    with pytest.raises(UvNotFound, match=reason):
        uv.ask(str(program), ["--version"])


def test_a_name_that_no_command_line_can_hold_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra `"cpu\\u0000"` in a pyproject.toml."""
    monkeypatch.setattr(uv, "_IGNORED_BY_PYTHON", [])  # else pytest would not ignore a SIGPIPE any more
    path = str(RecordingUv(tmp_path / "uv").path)
    for start in (uv.hand_over, uv.ask, lambda path, words: uv.run(path, words, uv.Interrupted())):
        with pytest.raises(ProjectError, match="a name with a NUL"):
            start(path, ["sync", "--extra", "cpu\0"])


@pytest.mark.parametrize("version", ["0.4.20", "0.5.2", "0.1.0", "0.5", "0"])
def test_a_uv_that_is_too_old_is_an_error_before_anything_is_written(
    version: str, uvtorch: Uvtorch, tmp_path: Path
) -> None:
    """0.4.20 takes `[[tool.uv.index]]` for an unknown key, warns, and installs PyPI's torch."""
    project = tmp_path / "project"
    project.mkdir()
    toml = project / "pyproject.toml"
    toml.write_text('[project]\nname = "demo"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = []\n')
    before = toml.read_bytes()
    old = RecordingUv(tmp_path / "bin" / "uv", version=version)
    done = uvtorch("add", "torch", "--torch-backend", "cpu", uv=old.path, cwd=project)
    message = f"error: {old.path} is uv {version}; a package from an index of its own needs uv 0.5.3 or newer"
    assert (done.code, done.out) == (2, b"")
    assert message in done.err.decode().splitlines()
    assert b"hint: update it" in done.err
    assert toml.read_bytes() == before
    assert [path.name for path in project.iterdir()] == ["pyproject.toml"]
    assert old.commands == []


@pytest.mark.parametrize("version", ["0.5.3", "0.13.8", "0.13.8+12 (abc 2026-01-01)", "1.0.0", "0.10.0rc1", "ubuntu"])
def test_a_uv_that_is_new_enough_or_does_not_tell(version: str, tmp_path: Path) -> None:
    uv.require(str(RecordingUv(tmp_path / "uv", version=version).path))


def test_an_old_uv_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(UvTooOld) as refusal:
        uv.require(str(RecordingUv(tmp_path / "uv", version="0.5.2").path))
    assert refusal.value.hints


def test_asking_gives_code_and_both_streams(tmp_path: Path) -> None:
    fake = RecordingUv(tmp_path / "uv", 'cat; printf "\\377caf\\303\\251" ; echo why >&2; exit 3')
    assert uv.ask(str(fake.path), ["pip", "compile", "-"], given="caf\u00e9\n") == (
        3,
        "caf\u00e9\n\ufffdcaf\u00e9",
        "why\n",
    )
    assert fake.call.argv == [b"pip", b"compile", b"-"]


def test_windows_looks_for_uv_exe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "uv.exe"
    program.write_bytes(b"MZ")
    program.chmod(0o755)
    monkeypatch.setattr(uv, "WINDOWS", True)
    monkeypatch.setattr(uv, "EXECUTABLE", "uv.exe")
    assert uv.find({"PATH": str(tmp_path)}) == str(program)
    assert uv.find({"UVTORCH_UV": "uv", "PATH": str(tmp_path)}) == str(program)
    assert uv.find({"UVTORCH_UV": str(tmp_path / "uv")}) == str(program)


def test_windows_has_few_signals_and_ctrl_c_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIGHUP", "SIGQUIT", "SIGTSTP"):
        monkeypatch.delattr(f"_signal.{name}")
    with uv.Interrupted() as interrupted:
        signal.raise_signal(signal.SIGINT)
    assert interrupted.code == 130


def test_windows_launchers_of_uvtorch_are_seen_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console script on Windows is a program with a zip file behind it, its entries stored as they are."""
    import zipfile

    launcher = tmp_path / "uv.exe"
    launcher.write_bytes(b"MZ" + os.urandom(40_000) + b"#!C:\\Python\\python.exe\r\n")
    with zipfile.ZipFile(launcher, "a") as archive:
        archive.writestr("__main__.py", "import sys\nfrom uvtorch.cli import main\nsys.exit(main())\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(uv, "EXECUTABLE", "uv.exe")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(UvNotFound, match="is uvtorch itself"):
        uv.find({"PATH": str(tmp_path)})
