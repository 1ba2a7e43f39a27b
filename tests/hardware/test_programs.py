"""Starting a vendor's program: bounded in time and output, killed with its children."""

import os
import time
from pathlib import Path

import pytest

from tests.hardware.scenes import LINUX
from uvtorch.hardware.scene import Result, Scene, run
from uvtorch.hardware.scene import plain as one_line

ENV = {"PATH": "/usr/bin:/bin"}


def script(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_gives_its_code_and_both_outputs(tmp_path: Path) -> None:
    result = run((script(tmp_path, "echo out; echo err >&2; exit 3"),), ENV, 5)
    assert result == Result(3, "out\nerr\n")


def test_arguments_are_not_a_shells(tmp_path: Path) -> None:
    result = run((script(tmp_path, 'printf "%s" "$1"'), "$(id) `id` ; x"), ENV, 5)
    assert result.output == "$(id) `id` ; x"


def test_a_program_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    # The grandchild holds the pipe and would outlive the program that is killed alone.
    path = script(tmp_path, f"sleep 60 & echo $! >{tmp_path}/pid; echo started; wait")
    result = run((path,), ENV, 0.5)
    assert result == Result(None, "started\n", "took more than 0.5 s", hung=True)
    grandchild = int((tmp_path / "pid").read_text())
    for _ in range(200):
        if not _alive(grandchild):
            break
        time.sleep(0.01)
    assert not _alive(grandchild)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_output_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    result = run((script(tmp_path, r"printf '\377\376'"),), ENV, 5)
    assert result == Result(0, "\ufffd\ufffd")


@pytest.mark.parametrize("content", ["", "\x7fELF not really", "#!/nonexistent/interpreter\n"])
def test_what_cannot_be_started_is_a_failure(content: str, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_text(content)
    path.chmod(0o755)
    result = run((str(path),), ENV, 5)
    assert result.code is None
    assert result.failure.startswith("could not be started: ")


def test_the_program_cannot_read_our_input_and_leaves_our_environment(tmp_path: Path) -> None:
    env = {**ENV, "LANG": "ja_JP.UTF-8", "LC_MESSAGES": "ja_JP.UTF-8", "LANGUAGE": "ja", "KEEP": "1"}
    result = run((script(tmp_path, 'cat; echo "$LC_ALL|$KEEP"; ls /none'),), env, 5)
    assert result.output.startswith("C|1\n")
    assert result.output.endswith("No such file or directory\n")


# Reading files


def test_reading_is_bounded_and_never_raises(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 200_000)
    (tmp_path / "binary").write_bytes(b"\xff\0")
    scene = Scene(LINUX, {}, str(tmp_path))
    assert scene.read("/big", 100_000) == "x" * 100_000
    assert scene.read("/binary") == "\ufffd\0"
    assert [scene.read(path) for path in ("/none", "/", "/nul\0")] == [""] * 3
    assert scene.names("/none") == []


def test_a_pipe_where_a_file_is_expected_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert Scene(LINUX, {}, str(tmp_path)).read("/pipe") == ""


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  NVIDIA\tH100\n", "NVIDIA H100"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("é", "é"),
        ("", ""),
        ("x" * 999, "x" * 300),
    ],
)
def test_text_from_the_machine_is_one_printable_line(text: str, plain: str) -> None:
    assert one_line(text) == plain
