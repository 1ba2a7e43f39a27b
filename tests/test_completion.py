"""`uvtorch torch completion` in the shells themselves: uv's words and ours."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.project import Project
from uvtorch.verbs.completion import SHELLS

pytest_plugins = ["tests.index.fixtures"]

Complete = Callable[..., list[list[str]]]
BASH = """
source "$1"; shift
for line; do
  read -ra COMP_WORDS <<<"$line"; [[ $line == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=()
  _uvtorch uvtorch "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  printf '%s\\n' "${COMPREPLY[@]}" ==
done
"""
FISH = "source $argv[1]; for line in $argv[2..]; complete -C $line; echo ==; end"
ASK = {"bash": ["bash", "-c", BASH, "bash"], "fish": ["fish", "-c", FISH]}


@pytest.fixture(params=[*ASK])
def complete(request: pytest.FixtureRequest, project: Project, tmp_path: Path) -> Complete:
    """What a shell offers for the last word of each line."""
    shell = request.param
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    script = tmp_path / "completion"
    script.write_text(project.uvtorch("torch", "completion", shell).must().out)

    def ask(*lines: str) -> list[list[str]]:
        command = [*ASK[shell], str(script), *(f"uvtorch {line}" for line in lines)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        assert done.stderr == ""
        parts = re.split("^==\n", done.stdout, flags=re.MULTILINE)
        return [[row.partition("\t")[0] for row in part.splitlines()] for part in parts]

    return ask


def test_uvs_words_and_ours_are_offered_together(complete: Complete) -> None:
    first, all_, backend, auto, verbs, named, options, value, shells, _ = complete(
        "t",
        "sync --a",
        "add --t",
        "sync -q --au",
        "torch d",
        "torch use cu12",
        "torch use --",
        "sync --torch-backend cu12",
        "torch completion ",
    )
    assert {"tree", "tool", "torch"} <= set(first)
    assert {"--active", "--all-extras", "--auto"} <= set(all_)
    assert "--torch-backend" in backend
    assert "--auto" in auto
    assert sorted(verbs) == ["detect", "doctor"]
    assert {"cu126", "cu128"} <= set(named)
    assert sorted(options) == ["--dry-run", "--index-base", "--script"]
    assert {"cu126", "cu128"} <= set(value)
    assert set(shells) >= set(SHELLS)


def test_zsh_and_powershell_get_uvs_script_with_ours(project: Project) -> None:
    zsh = project.uvtorch("torch", "completion", "zsh").must().out
    assert zsh.startswith("#compdef uvtorch\n")
    assert "_uv() {" in zsh
    assert '"torch use"*) ours=(--index-base' in zsh
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=zsh, encoding="utf-8", check=True)
    powershell = project.uvtorch("torch", "completion", "powershell").must().out
    assert "Register-ArgumentCompleter -Native -CommandName 'uvtorch'" in powershell
    assert "        'uv;torch;use' { [CompletionResult]::new('--index-base'" in powershell
    assert powershell.index("'uv;torch;use'") < powershell.index("        'uv' {\n")


def test_a_shell_that_uv_does_not_know_is_an_error(project: Project) -> None:
    assert "'tcsh' is not one of" in project.uvtorch("torch", "completion", "tcsh").must(2).err
