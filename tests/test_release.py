"""What a release and its users need beside the code: workflows, the action, the hooks, the changelog, the man page."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from tests.index.project import Home
from uvtorch import __version__
from uvtorch.steps import verb as torch_verbs

pytest_plugins = ["tests.index.fixtures"]

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_pins_its_actions_and_has_few_rights(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name, said in re.findall(r"uses: (\S+)(.*)", text):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name), name
        assert re.match(r" # v\d", said), name
    assert re.search(r"^permissions:( \{\}|\n  contents: read)$", text, re.MULTILINE)
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")
    assert "secrets." not in text
    jobs = text.partition("\njobs:\n")[2]
    assert len(re.findall(r"^  [\w-]+:$", jobs, re.MULTILINE)) == jobs.count("timeout-minutes:")


def test_ci_runs_what_contributors_run_on_every_system_and_python() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "- run: .ci/run\n" in text
    for system in ("ubuntu", "macos", "windows"):
        assert system in text
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = re.findall(r":: (3\.\d+)$", "\n".join(declared["classifiers"]), re.MULTILINE)
    assert f'python: ["{pythons[0]}", "{pythons[-1]}"]' in text


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert __version__ in headings or (__version__, len(headings)) == ("0.1.0", 1), "the first release is not out"


def test_the_version_stands_in_one_place() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False).stdout
    if not files:
        pytest.skip("not a checkout")
    sources = [name for name in files.splitlines() if name.endswith(".py") and name.startswith("uvtorch/")]
    holders = [name for name in sources if f'"{__version__}"' in (ROOT / name).read_text(encoding="utf-8")]
    assert holders == ["uvtorch/__init__.py"]


def test_the_man_page_has_every_verb_and_variable() -> None:
    text = (ROOT / "docs" / "uvtorch.1").read_text(encoding="utf-8")
    plain = re.sub(r'\\(.)|"', r"\1", text)
    for verb in torch_verbs.torch.list_commands(click.Context(torch_verbs.torch)):
        assert f"uvtorch torch {verb}" in plain
    documented = set(re.findall(r"`(UV\w+)`", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert documented <= set(re.findall(r"UV\w+", plain)) | {"UV_PROJECT_ENVIRONMENT"}
    if shutil.which("man"):
        done = subprocess.run(
            ["man", "--warnings", "-l", "docs/uvtorch.1"],
            cwd=ROOT,
            env={**os.environ, "MANPAGER": "cat", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_the_pre_commit_hook_is_a_command_that_exists() -> None:
    text = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    (entry,) = re.findall(r"entry: uvtorch torch (\w+)", text)
    assert entry in torch_verbs.torch.list_commands(click.Context(torch_verbs.torch))
    (files,) = re.findall(r"files: (.+)", text)
    for name, due in {"pyproject.toml": True, "packages/a/uv.lock": True, "src/pyproject.toml.py": False}.items():
        assert bool(re.search(files, name)) is due


@pytest.mark.skipif(sys.platform == "win32", reason="the steps are bash")
def test_the_action_names_the_machine_and_puts_uvtorch_on_the_path(home: Home, tmp_path: Path) -> None:
    steps = re.findall(
        r"^      run: (\|\n(?:        .*\n| *\n)+|.+\n)", (ROOT / "action.yml").read_text(), re.MULTILINE
    )
    assert len(steps) == 3
    install = "\n".join(line[8:] for line in steps[0].splitlines()[1:])
    environment = {
        **home.environment,
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_PATH": str(tmp_path / "path"),
        "GITHUB_ENV": str(tmp_path / "env"),
        "GITHUB_WORKSPACE": str(tmp_path),
        "UVTORCH_ACTION": str(tmp_path / "checkout"),
        "UVTORCH_ACTION_HARDWARE": "gpu.json",
    }
    # pip is not asked: what it would fetch is not on this machine.
    (tmp_path / "python3").write_text(
        f'#!/bin/sh\nmkdir -p "$3/bin"\nprintf \'#!/bin/sh\\necho "$@" >> {tmp_path}/pip\\n\' > "$3/bin/python"\n'
        'chmod +x "$3/bin/python"\n'
    )
    (tmp_path / "python3").chmod(0o755)
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    for script in (install, steps[1].strip()):
        subprocess.run(["bash", "-c", script], env=environment, check=True, timeout=60)
    assert (tmp_path / "path").read_text() == f"{tmp_path}/uvtorch/bin\n"
    assert (tmp_path / "env").read_text() == f"UVTORCH_HARDWARE={tmp_path}/gpu.json\n"
    words = (tmp_path / "pip").read_text().split()
    assert words[:3] == ["-m", "pip", "install"]
    assert words[-1] == f"{tmp_path}/checkout"  # the job has a uv, so none is installed
    assert steps[2].strip() == "uvtorch torch doctor"


def test_the_page_of_the_package_says_what_the_readme_says_and_links_out_of_it() -> None:
    """The tests of the README hold what both say."""
    page, readme = (path.read_text(encoding="utf-8") for path in (ROOT / "PYPI.md", ROOT / "README.md"))
    told, _, commands = page.partition("```sh")
    assert readme.startswith(told)
    typed = re.findall(r"^uvtorch .*?(?=  )", commands, re.MULTILINE)
    assert len(typed) == 3
    assert all(command in readme for command in typed)
    links = re.findall(r"\]\((.*?)\)", page)
    assert links
    assert all(link.startswith("https://") for link in links)
