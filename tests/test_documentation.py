"""The documents against the code: commands are run, tables compared, outputs the same to the letter, names exist."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tests.index.project import MACHINES, Project, Shell
from tests.test_imports import imports, part
from uvtorch import argv, backend, errors, project, requirement, uv
from uvtorch.steps import verb as torch_verbs

pytest_plugins = ["tests.index.fixtures"]

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "uvtorch"
EXAMPLE = ROOT / "examples" / "quickstart"

UNPINNED = (
    '[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = ["torch", "torchvision"]\n'
)


def section(title: str, document: str = README) -> str:
    """The text under a heading, up to the next heading of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^## |^\1 |\Z)", document, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[2]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def table(title: str) -> dict[str, list[str]]:
    """The rows of the one table of a section of the page `configuration`, by the first cell."""
    rows = [row for row in section(title, PAGES["configuration"]).splitlines() if row.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]
    return {row[0].strip("`"): row[1:] for row in cells}


# The two commands for a fresh machine


def test_the_first_command_prints_what_the_readme_shows(home: object, project: Project) -> None:
    """All but the installation: in this repository, offline, with the hardware that the README speaks of."""
    command = blocks(section("Try it"), "sh")[0].strip()
    install, show, rest = command.split(" && .venv/bin/uvtorch ")
    assert install == "python3 -m venv .venv && .venv/bin/pip install -q -e '.[uv]'"
    environment = {"UVTORCH_HARDWARE": str(MACHINES / "h200-580.json"), "PATH": "", "PYTHONPATH": str(ROOT)}

    def run(words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "uvtorch", *shlex.split(words)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "cu126, torch 2.14.1" in run(show).splitlines()[0]
    assert run(rest) == blocks(section("Try it"), "diff")[0]


def test_the_table_of_machines_is_what_explain_says(project: Project) -> None:
    """The builds and releases of each cell, and whether they run."""
    machines = {"GTX 1080": "gtx1080", "RTX 5090": "rtx5090", "8 x H100": "h100", "MI300X": "mi300x"}
    rows = [
        row.strip("| ").split(" | ") for row in README.splitlines() if row.startswith(tuple(f"| {m}" for m in machines))
    ]
    assert len(rows) == len(machines)
    build = re.compile(r"((?:cu|rocm)[\d.]+), torch (\d+\.\d+\.\d+)")
    for name, *cells in rows:
        out = project.uvtorch(
            "torch", "explain", "torch", "--compare", "--json", "--hardware", machines[name.partition(",")[0]]
        )
        told = json.loads(out.must().out)
        expected = [(row["backend"], row["torch"], row["fits"]) for row in told["compare"]]
        expected.append((told["chosen"]["backend"], told["chosen"]["torch"], True))
        bad = re.compile("no kernels|too old|idle")
        actual = [(*build.search(cell).groups(), not bad.search(cell)) for cell in cells]  # type: ignore[union-attr]
        assert actual == expected, name
    assert f"Catalog of {told['catalog']}" in README


def test_the_pictures_are_current() -> None:
    """If not: python tools/pictures.py --write."""
    done = subprocess.run(
        [sys.executable, "tools/pictures.py"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_second_command_is_what_ci_runs() -> None:
    command = blocks(section("Try it"), "sh")[1].strip()
    assert command.endswith(".venv/bin/python -m pytest")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in ci  # it takes the command from there
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# The documented commands


BLOCKS = [
    pytest.param(language, text, id=f"{name}-{language}-{number}")
    for name, document in {"readme": section("Recipes"), **PAGES}.items()
    for language in ("sh", "make", "dockerfile")
    for number, text in enumerate(blocks(document, language))
]


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_documented_commands_run(
    empty: Callable[[str], Project],
    shell: Shell,
    language: str,
    text: str,
) -> None:
    where = empty(UNPINNED)
    (where.path / "train.py").write_text("import torch\n")
    if "timm" in text:
        where = empty(UNPINNED.replace('"torch", "torchvision"', ""))
    if language != "sh":  # what is used there, a person has made
        shell(where, "uvtorch lock --torch-backend auto")
        shutil.copy(MACHINES / "h200-580.json", where.path / "gpu-machine.json")
    if language == "make":
        text = "".join(row.removeprefix("\t") for row in text.splitlines(keepends=True) if row.startswith("\t"))
    if language == "dockerfile":
        text = text.replace("RUN ", "")
    assert "uvtorch " in text
    shell(where, text)


def test_each_verb_has_its_page_and_the_navigation_has_each_page() -> None:
    navigation = set(re.findall(r"([a-z]+)\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert navigation == set(PAGES)
    verbs = set(torch_verbs.torch.list_commands(click.Context(torch_verbs.torch)))
    assert verbs <= set(PAGES)
    titles = " ".join(text.partition("\n")[0] for text in PAGES.values())
    for verb in argv.OURS:
        assert re.search(rf"\b{verb}\b", titles), verb


def test_the_hosts_are_those_of_the_catalog() -> None:
    text = (PACKAGE / "catalog" / "extensions.toml").read_text(encoding="utf-8")
    hosts = {backend.DEFAULT_INDEX_BASE.split("/")[2], *re.findall(r'^url = "https://([\w.-]+)', text, re.MULTILINE)}
    assert len(hosts) > 3
    assert {host for host in hosts if f"`{host}`" in section("Good to know")} == hosts


def test_the_examples_own_commands(shell: Shell, project: Project) -> None:
    """The example in a copy, its program but for PyTorch itself."""
    shutil.copytree(EXAMPLE, project.path, dirs_exist_ok=True)
    (project.path / "train.py").write_text("import torch, torchvision\n")
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    for block in blocks(text, "console"):
        shell(project, "\n".join(row.removeprefix("$ ") for row in block.splitlines()))
    project.check("cu130")


def test_the_example_is_unpinned_and_has_no_lock() -> None:
    data = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))
    assert {requirement.named_by(text) for text in data["project"]["dependencies"]} == {"torch", "torchvision"}
    assert "tool" not in data
    listed = subprocess.run(
        ["git", "ls-files", "--", str(EXAMPLE)], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert "uv.lock" not in listed.stdout
    compile((EXAMPLE / "train.py").read_text(encoding="utf-8"), "train.py", "exec")


# What counts first, and taking pins out


def test_what_counts_first(empty: Callable[[str], Project]) -> None:
    """Pins before UV_TORCH_BACKEND, that before the configuration, that before the hardware; `auto` is an option."""
    project = empty(UNPINNED + '\n[tool.uvtorch]\nbackend = "cu128"\n')

    def said(*words: str, **variables: str) -> str:
        done = project.uvtorch(*words, machine="h200-580", **variables).must()
        return done.out + done.err

    assert "using cpu " in said("sync", "--dry-run", UV_TORCH_BACKEND="cpu")
    assert "using cu128 " in said("sync", "--auto", "--dry-run")
    assert "using cu126 " in said("add", "torch==2.7.1+cu126", "--dry-run", UV_TORCH_BACKEND="cpu")
    said("lock", "--torch-backend", "cu126")
    pinned = project.text
    assert "/cu126" in pinned
    said("lock", UV_TORCH_BACKEND="cpu")
    said("export", "--auto")
    assert project.text == pinned
    said("lock", "--torch-backend", "auto")
    assert "/cu130" in project.text


def test_taking_the_pins_out_leaves_the_file_as_it_was(empty: Callable[[str], Project]) -> None:
    project = empty(UNPINNED)
    project.uvtorch("torch", "use", "cu126").must()
    assert project.text != UNPINNED
    project.uvtorch("torch", "use", "none").must()
    assert project.text == UNPINNED


# The map of the code


def test_the_map_is_true() -> None:
    """Every package is on it, every name on it exists, and no import points upwards or sideways."""
    rows = [re.match(r"(?:[a-z]+(?: {2,}|$))+", line) for line in blocks(CONTRIBUTING, "text")[0].splitlines()]
    level = {name: at for at, row in enumerate(rows) if row for name in row[0].split()}
    actual = imports()
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} <= set(level)
    assert set(level) <= {part(module) for module in actual}
    for module, others in actual.items():
        above = level.get(part(module), -1)
        wrong = {one for one in others if part(one) != part(module) and level.get(part(one), 99) <= above}
        assert not wrong, f"{module} imports {wrong}"


def test_the_functions_that_are_named_exist() -> None:
    named = set(re.findall(r"`([a-z_/]+)\.py:([\w.]+)`", CONTRIBUTING))
    assert len(named) > 20
    for path, name in named:
        body = ast.parse((PACKAGE / f"{path}.py").read_text(encoding="utf-8")).body
        for one in name.split("."):
            found = [
                node
                for node in body
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and node.name == one
            ]
            assert found, f"{path}.py has no {name}"
            body = found[0].body


# The tables


def test_the_options_are_those_of_the_tables() -> None:
    ours: dict[str, list[str]] = {}
    for verb, options in argv.OURS.items():
        for option in options:
            ours.setdefault(option, []).append(verb)
    documented = {name: cells[0].split(", ") for name, cells in table("Options").items()}
    assert {name: sorted(verbs) for name, verbs in documented.items()} == {
        name: sorted(verbs) for name, verbs in ours.items()
    }


def test_the_variables_are_those_that_are_read() -> None:
    """Every UVTORCH_ variable of the code is documented, and every documented variable is in the code."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "uvtorch").rglob("*.py"))
    documented = set(table("Environment"))
    assert set(re.findall(r"\bUVTORCH_[A-Z_]+\b", source)) <= documented
    assert {name for name in documented if f'"{name}"' in source} == documented


def test_the_configuration_is_read_as_documented() -> None:
    text = blocks(section("Configuration", PAGES["configuration"].partition("\n")[2]), "toml")[0]
    config = project.read(tomllib.loads(f'[project]\nname = "demo"\n{text}'), None, "README.md").config
    assert str(config.backend) == "cu128"
    assert config.auto is True
    assert config.index_base == "https://mirror.example.com/whl"
    assert config.packages == ("my-cuda-extension",)
    with pytest.raises(errors.UvtorchError) as caught:
        project.read(tomllib.loads("[tool.uvtorch]\nother = 1\n"), None, "x")
    known = str(caught.value.hints).partition(": ")[2]
    assert set(re.findall(r"[a-z-]+", known)) == set(tomllib.loads(text)["tool"]["uvtorch"])


def test_the_verbs_and_their_options_are_those_that_exist() -> None:
    group = torch_verbs.torch
    context = click.Context(group)
    documented = {
        name.removeprefix("uvtorch torch "): set(re.findall(r"`(--[a-z-]+)`", cells[0]))
        for name, cells in table("uvtorch's own verbs").items()
    }
    existing = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        existing[name] = {text for option in command.params for text in option.opts if text.startswith("--")}
    assert documented == existing


def test_the_man_page_names_every_verb_option_and_variable() -> None:
    page = (ROOT / "docs" / "uvtorch.1").read_text(encoding="utf-8").replace("\\-", "-")
    for name, cells in table("uvtorch's own verbs").items():
        rows = "".join(
            row for row in re.sub(r"\\f[BRI]", "", page).splitlines(keepends=True) if row.startswith(f"{name} ")
        )
        assert rows
        assert {option for option in re.findall(r"--[a-z-]+", cells[0]) if option not in rows} == set(), name
    assert {name for name in (*table("Options"), *table("Environment")) if name not in page} == set()
    for verb in argv.OURS:
        assert re.search(rf"\b{verb}\b", page), verb


def test_the_exit_codes_are_those_of_the_errors() -> None:
    documented = set(table("Exit codes"))
    codes = {
        str(kind.exit_code)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.UvtorchError)
    }
    assert codes <= documented
    assert documented == {"uv's own", "1", "2", "130"}


def test_what_it_writes_is_what_the_readme_shows(project: Project) -> None:
    project.uvtorch("add", "torch", "--torch-backend", "cu128").must()
    assert project.text.endswith("\n" + blocks(PAGES["files"], "toml")[0])


def test_the_oldest_versions_are_those_of_the_code() -> None:
    assert f"uv {'.'.join(map(str, uv.MINIMUM))} is the oldest" in README
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"Python {metadata['requires-python'].removeprefix('>=')} or newer" in README


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda path: path.stem,
)
def test_links_lead_somewhere(path: Path) -> None:
    document = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", document):
        inside = target.removeprefix("https://github.com/uvtorch/uvtorch/tree/main/").removeprefix(
            "https://github.com/uvtorch/uvtorch/blob/main/"
        )
        if "://" not in inside:
            assert ((path.parent if inside == target else ROOT) / inside).exists(), target
    for target in re.findall(r"\b(?:tests|tools|examples|benchmarks)/[\w./-]+", document):
        assert (ROOT / target.rstrip(".")).exists(), target


def test_help_names_what_the_readme_does(project: Project) -> None:
    out = project.uvtorch("--help").must().out
    for option in table("Options"):
        assert option in out
