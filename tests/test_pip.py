"""`uvtorch pip install|sync|compile`, `tool install|run`, `run --with`: what uv is told, and what it then installs."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.index.project import MACHINES, Project
from tests.situations import choices
from tests.test_argv import said as uv_says
from tests.test_argv import uv as real_uv_path
from uvtorch import argv, files
from uvtorch.argv import parse
from uvtorch.errors import UvtorchError
from uvtorch.packages import arguments, names_pytorch
from uvtorch.session import Session
from uvtorch.steps.route import install
from uvtorch.verbs.sync import sync

pytest_plugins = ["tests.index.fixtures"]

BARE = '[project]\nname = "demo"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = []\n'
SOURCE = 'torch = { index = "pytorch-cu126" }\n'
INDEX = '[[tool.uv.index]]\nname = "pytorch-cu126"\nurl = "BASE/cu126"\nexplicit = true\n'
PINNED = BARE.replace("[]", '["torch"]') + f"[tool.uv.sources]\n{SOURCE}{INDEX}"


# The tables of options


def completed(family: str, verb: str) -> tuple[set[str], set[str]]:
    """The options that uv's completion for zsh lists for a verb of two words: with a value, and without."""
    text = uv_says("generate-shell-completion", "zsh").partition(f":uv-{family}-command-$line[1]:")[2]
    section = re.split(rf"\n\s*\({verb}\)\n_arguments ", text, maxsplit=1)[1].partition("&& ret=0")[0]
    rows = re.findall(r"^'(?:\([^)]*\))?\*?(--?[\w-]+)([=+]?)\[", section, flags=re.MULTILINE)
    values = {name for name, sign in rows if sign}
    return values, {name for name, _ in rows} - values


@pytest.mark.parametrize("words", sorted(argv.INSTALLERS))
def test_every_option_of_uv_is_read_as_uv_reads_it(words: str) -> None:
    family, verb = words.split()
    values, flags = completed(family, verb)
    assert len(values) > 40
    our_values, our_flags = argv.tables(family)
    assert values - {"--torch-backend"} <= our_values
    assert flags <= our_flags
    assert not flags & our_values
    hidden = ("--trusted-host", "--config-settings", "--constraint", "--build-constraint", "--no-cache-dir")
    line = parse(
        [*words.split(), *(word for name in hidden for word in ([name, "v"] if name[2:4] != "no" else [name]))]
    )
    assert (line.unknown, line.positionals) == (None, [])


# What is named


@pytest.mark.parametrize(
    ("words", "texts", "files"),
    [
        ("pip install torch six", ["torch", "six"], []),
        ("pip install -r a.txt -e ./b six", ["six"], ["a.txt", "./b/pyproject.toml"]),
        ("pip install .[gpu]", [".[gpu]"], ["./pyproject.toml"]),
        ("pip install --group p/pyproject.toml:a --group b", [], ["p/pyproject.toml", "pyproject.toml"]),
        ("run --group b --with six x", ["six"], []),
        ("--directory d pip install -r a.txt", [], ["d/a.txt"]),
        ("pip sync a.txt b.txt", [], ["a.txt", "b.txt"]),
        ("pip compile -o out.txt a.in", [], ["a.in"]),
        ("tool run torch@2.9.1 --with x", ["torch==2.9.1"], []),
        ("tool run --from torch@latest x", ["torch"], []),
        ("tool run --from torch torchrun six", ["torch"], []),
        ("tool install -w a[b,c]>=1,<2,torch>=2,<3,,d x", ["a[b,c]>=1,<2", "d", "torch>=2,<3", "x"], []),
        (
            "run --with torch --with-requirements r.txt --with-editable e x torch",
            ["torch"],
            ["r.txt", "e/pyproject.toml"],
        ),
    ],
)
def test_the_requirements_and_the_files_of_a_command_line(words: str, texts: list[str], files: list[str]) -> None:
    found = arguments(parse(words.split()), {})
    assert (sorted(found[0]), sorted(path for path, _ in found[1])) == (sorted(texts), sorted(files))


def test_a_command_line_without_pytorch_concerns_nobody(tmp_path: Path) -> None:
    """No hardware is asked and no session is made: `cli` goes by this alone."""
    (tmp_path / "plain.txt").write_text("six\n--no-binary six\n")
    (tmp_path / "torch.txt").write_text("# all\nTorch>=2\n")
    (tmp_path / "refers.txt").write_text("-r torch.txt\n")

    def told(words: str, **env: str) -> bool:
        return names_pytorch(parse(words.replace("@", f"{tmp_path}/").split()), env)

    for words in (
        "pip install timm pytorch-lightning torchmetrics",
        "pip install -r @plain.txt -r @none.txt",
        "pip list",
    ):
        assert not told(words), words
    for words in (
        "pip install TORCH[opt]>=2",
        "pip sync @torch.txt",
        "pip compile @refers.txt",
        "tool run -w six,torchvision x",
    ):
        assert told(words), words
    for words in ("pip install timm", "pip install -r https://example.com/r.txt"):
        assert told(words, UV_TORCH_BACKEND="auto"), words
        assert not told(words), words
    assert not told("pip install six", UV_TORCH_BACKEND="auto")
    assert told("run --with timm x")  # it would lay PyPI's torch over the project's
    assert not told("run --with six x")


# What uv is told


Told = Callable[..., str]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """The command line for uv, on PyTorch's own indexes; what stands in the project of ours in place of its path."""
    monkeypatch.setattr(files, "READ_AHEAD", set())
    monkeypatch.chdir(tmp_path)
    subprocess.run([real_uv_path(), "venv", "-q", ".venv"], check=True)
    found = {"UVTORCH_UV": real_uv_path(), "XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)}

    def tell(words: str, machine: str = "gtx1080-580", start: str = "$ uv ", **env: str) -> str:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        described = {"UVTORCH_HARDWARE": str(MACHINES / f"{machine}.json"), **found, **env}
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown):
                line = parse(words.split())
                (sync if line.verb == "run" else install)(Session(line, described, dry=True))
        except UvtorchError as error:
            return f"error: {error}"
        finally:
            for name in env:
                monkeypatch.delenv(name, raising=False)
        (row,) = [row.removeprefix(start) for row in shown.getvalue().splitlines() if row.startswith(start)]
        return re.sub(rf"{tmp_path}/data/uvtorch/(\S+)-[0-9a-f]{{12}}(/pyproject.toml)?", r"<\1>", row)

    return tell


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no path there")
def test_what_a_pipe_holds_is_read_and_left_for_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-r <(…)`."""
    monkeypatch.setattr(files, "READ_AHEAD", set())
    for text in (b"torch\n", b"six\n", b""):
        reading, writing = os.pipe()
        os.write(writing, text)
        os.close(writing)
        try:
            assert names_pytorch(parse(["pip", "install", "-r", f"/dev/fd/{reading}"]), {}) == (b"torch" in text)
            assert os.read(reading, 100) == text
        finally:
            os.close(reading)
    assert not names_pytorch(parse(["pip", "install", "-r", f"/dev/fd/{reading}"]), {})


@pytest.mark.processes
def test_our_choice_is_passed_where_nobody_names_one(told: Told, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("six\ntorch\n")
    for words in (
        "pip install torch",
        "pip sync r.txt",
        "pip compile r.txt",
        "tool install six --with torch",
        "tool run -w torch six",
    ):
        verb, rest = " ".join(words.split()[:2]), " ".join(words.split()[2:])
        assert told(words) == f"{verb} --torch-backend cu126 {rest}"
    kept = "# `uv tool upgrade` would take PyPI's build: upgrade by this command with `--upgrade`"
    assert told("tool install six --with torch", start=kept) == ""  # its receipt has no backend
    assert told("pip install torch", "mi300x-gfx942") == "pip install --torch-backend rocm7.2 torch"
    assert told("pip install torch==2.6.0+cu118") == "pip install --torch-backend cu118 torch==2.6.0+cu118"
    assert told("run --with torch x") == "run --with-editable <cu126> --with torch x"


@pytest.mark.processes
def test_auto_means_our_choice_however_it_is_said(told: Told, tmp_path: Path) -> None:
    assert told("pip install torch --torch-backend auto") == "pip install --torch-backend cu126 torch"
    assert told("pip install six --torch-backend=auto") == "pip install --torch-backend cu126 six"
    assert told("pip install torch", UV_TORCH_BACKEND="auto") == "pip install --torch-backend cu126 torch"
    assert told("pip install timm", UV_TORCH_BACKEND="auto") == "pip install --torch-backend cu126 timm"
    assert told("pip install -r -", UV_TORCH_BACKEND="auto") == "pip install --torch-backend cu126 -r -"
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\ntorch-backend = "auto"\n')
    assert told("pip install torch") == "pip install --torch-backend cu126 torch"


@pytest.mark.processes
def test_what_names_an_index_or_a_backend_goes_to_uv_as_it_is(told: Told, tmp_path: Path) -> None:
    (tmp_path / "index.txt").write_text("--extra-index-url https://example.com/simple\ntorch\n")
    for words in (
        "pip install torch --torch-backend cu118",
        "pip install torch --torch-backend=cpu -q",
        "tool run --torch-backend cpu --with torch six",
        "pip install --index https://example.com/simple torch",
        "pip install -i https://example.com/simple torch",
        "pip install torch --no-index -f wheels",
        "pip install -r index.txt",
        "pip install six",
    ):
        assert told(words) == words
    assert told("pip install torch", UV_TORCH_BACKEND="cu118") == "pip install torch"
    assert told("pip install torch", UV_INDEX="x=https://example.com/whl/cu121") == "pip install torch"
    (tmp_path / "uv.toml").write_text('[pip]\ntorch-backend = "cu118"\n')
    assert told("pip install torch") == "pip install torch"
    assert told("tool run --from torch x") == "tool run --torch-backend cu126 --from torch x"
    (tmp_path / "uv.toml").write_text('[[index]]\nurl = "https://example.com/whl/cu121"\n')
    assert told("pip install torch") == "pip install torch"
    (tmp_path / "uv.toml").unlink()
    assert told("pip install torch", "macos-m3") == "pip install torch"
    for platform in ("windows", "aarch64-unknown-linux-gnu", "macos"):  # whose hardware nobody knows
        words = f"pip compile torch.in --python-platform {platform}"
        (tmp_path / "torch.in").write_text("torch\n")
        assert told(words) == words
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pyproject.toml").write_text(PINNED)
    assert told("pip install -e own") == "pip install -e own"
    (tmp_path / "own" / "pyproject.toml").write_text(BARE.replace("[]", '["torch"]'))
    assert told("pip install -e own") == "pip install --torch-backend cu126 -e own"


@pytest.mark.processes
def test_the_extras_and_groups_of_a_project_that_are_asked_for(told: Told, tmp_path: Path) -> None:
    groups = '[dependency-groups]\ndl = ["torch"]\nall = [{ include-group = "dl" }]\n'
    more = f'[project.optional-dependencies]\nThe_GPU = ["torch"]\n{groups}'
    (tmp_path / "pyproject.toml").write_text(BARE + more)
    for words in (
        "pip install -r pyproject.toml --extra the-gpu",
        "pip install .[the.gpu]",
        "pip install -e .[x,the-gpu]",
        "pip install --group dl",
        "pip install six --group pyproject.toml:all",
        "pip compile pyproject.toml --all-extras",
        "tool install six --with .[the-gpu]",
    ):
        verb, rest = " ".join(words.split()[:2]), " ".join(words.split()[2:])
        assert told(words).replace("'", "") == f"{verb} --torch-backend cu126 {rest}"
    for words in ("pip install -r pyproject.toml --extra other", "pip install .", "pip install --group other"):
        assert told(words) == words


CHOICES = choices(cpu="https://example.com/whl/cpu", gpu="https://example.com/whl/cu126")


@pytest.mark.processes
def test_run_with_joins_the_choice_that_is_named_or_that_auto_takes(told: Told, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(BARE + CHOICES)
    cpu, gpu = "--with-editable <cpu> --with torchvision x", "--with-editable <cu126> --with torchvision x"
    assert told("run --extra cpu --with six,torch x") == "run --with-editable <cpu> --extra cpu --with six,torch x"
    assert told("run --auto --with torchvision x") == f"run --extra gpu {gpu}"
    assert told("run --torch-backend auto --with torchvision x", "h200-580") == f"run --extra gpu {gpu}"
    assert told("run --auto --with torchvision x", "cpu-only") == f"run --extra cpu {cpu}"
    assert told("run --torch-backend cpu --with torchvision x") == f"run --extra cpu {cpu}"
    assert told("run --auto --no-extra gpu --with torchvision x").startswith("run --extra cpu --with-editable <cpu> ")
    (tmp_path / "x.py").write_text("print()")
    assert told("run --auto --with torchvision x.py") == f"run --extra gpu {gpu}.py"
    refused = told("run --auto --with torchvision==0.29.1+cpu x")
    assert refused == "error: --with asks for torchvision==0.29.1+cpu from cpu, and the project pins cu126"


@pytest.mark.processes
def test_run_with_takes_a_pins_index_under_its_name_by_which_uv_finds_credentials(told: Told, tmp_path: Path) -> None:
    house = PINNED.replace("pytorch-cu126", "house").replace("BASE", "https://user:secret@example.com/whl")
    (tmp_path / "pyproject.toml").write_text(house)
    assert told("run --with torchvision x") == "run --with-editable <cu126> --with torchvision x"
    (made,) = (tmp_path / "data").rglob("pyproject.toml")
    assert made.read_text().count('"house"') == 3
    assert sys.platform == "win32" or made.parent.stat().st_mode & 0o77 == 0


@pytest.mark.processes
def test_an_index_where_uv_does_not_know_the_name(told: Told, tmp_path: Path) -> None:
    assert told("pip install torch --torch-backend cu134") == "pip install -r <cu134> torch"
    assert (
        told("tool install six -w torch", UV_TORCH_BACKEND="rocm7.14")
        == "tool install --with-editable <rocm7.14> six -w torch"
    )
    assert told("pip install torch", UVTORCH_INDEX_BASE="https://example.com/whl") == "pip install -r <cu126> torch"
    mirror = "https://example.com/whl"  # what nobody names is not installed
    assert told("pip install six --torch-backend auto", UVTORCH_INDEX_BASE=mirror).endswith(" six --torch-backend auto")
    for words in ("pip install torch", "tool run --with torch six"):  # uv's own option would not go to the mirror
        verb, rest = " ".join(words.split()[:2]), " ".join(words.split()[2:])
        means = "-r" if verb == "pip install" else "--with-editable"
        typed = f"{verb} --torch-backend cpu {rest}"
        assert told(typed, UVTORCH_INDEX_BASE=mirror) == f"{verb} {means} <cpu> {rest}"
    (tmp_path / "torch.in").write_text("torch\n")
    words = "compile torch.in --python-platform windows --torch-backend cu126"
    assert told(f"pip {words}") == f"pip {words}"
    assert told(f"pip {words}", UVTORCH_INDEX_BASE=mirror) == "pip compile <cu126> torch.in --python-platform windows"
    said = told("pip install -r -", start="# warning: ", UV_TORCH_BACKEND="auto", UVTORCH_INDEX_BASE=mirror)
    assert said.startswith("no PyTorch package is named, and the build of what comes along is left to uv; ")
    assert told("pip install torchaudio") == "pip install --torch-backend cu126 torchaudio"
    made = [path.read_text() for path in (tmp_path / "data").rglob("pyproject.toml")]
    assert len(made) == 4
    assert all(text.count("explicit = true") == 1 for text in made)
    assert any('url = "https://example.com/whl/cu126"' in text for text in made)


@pytest.mark.processes
def test_settings_that_make_no_sense_are_uvs_to_tell(told: Told, tmp_path: Path) -> None:
    lists = [f"{key} = {value}" for key in ("index", "find-links", "extra-index-url") for value in ("3", "[3]")]
    for text in (*lists, "index = [{ url = 3 }]", "torch-backend = 3", "pip = 3", "index-url = 3"):
        (tmp_path / "uv.toml").write_text(text)
        assert told("pip install torch").endswith(" torch"), text
    (tmp_path / "uv.toml").unlink()
    (tmp_path / "pyproject.toml").write_text("[project")
    for command in ("pip install torch", "tool run --from torch python"):
        assert "--torch-backend" in told(command)


@pytest.mark.processes
def test_what_cannot_be_chosen_is_refused(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("pip install torch==2.15.0", "h100-535").startswith("error: torch 2.15.0 needs a driver >= 580")
    assert told("pip install torch --torch-backend gpu") == "error: --torch-backend: `gpu` is not a backend"
    assert told("pip install torch==2.9.1+cpu torchvision==0.24.1+cu126").startswith("error: ")
    base = "https://user:secret@example.com/whl"
    refused = told("pip install torch", UVTORCH_INDEX_BASE=base)
    assert "holds credentials" in refused
    assert "secret" not in refused
    (tmp_path / "data").write_text("in the way")
    assert told("pip install torch --torch-backend cu134").startswith("error: cannot write ")


# What it comes to


def installed(done: str) -> dict[str, str]:
    """What uv says that it installs: ` + torch==2.14.1+cu126`."""
    return dict(
        row.removeprefix(" + ").split("==") for row in done.splitlines() if row.startswith(" + ") and "==" in row
    )


@pytest.fixture
def place(project: Project) -> Project:
    """A project whose environment is there; uv is not told of a Python, which `pip` would install into."""
    del project.environment["UV_PYTHON"]
    project.uv("venv", "-q", "--python", sys.executable).must()
    return project


def test_pip_installs_what_was_chosen(place: Project) -> None:
    project = place
    (project.path / "r.txt").write_text("torch\ntorchvision\n")
    done = project.uvtorch("pip", "install", "torch", "jinja2", machine="gtx1080-580").must()
    assert done.ours == [
        "uvtorch: using cu126 (torch 2.14.1): driver 580.95.05 supports CUDA 13.0; NVIDIA GeForce GTX 1080 (6.1)"
    ]
    assert installed(done.err)["torch"] == "2.14.1+cu126"
    assert installed(done.err)["jinja2"] != "3.1.4", "an old copy on PyTorch's index"
    # What joins the installed torch is of its build, whatever the machine.
    joined = project.uvtorch("pip", "install", "torchvision", machine="h200-580").must()
    assert joined.ours == ["uvtorch: using cu126, as the installed torch 2.14.1+cu126"]
    assert installed(joined.err) == {"torchvision": "0.29.1+cu126"} | installed(joined.err)
    assert "torch" not in installed(joined.err)
    piped = project.uvtorch("pip", "sync", "-", "--dry-run", machine="h200-580", stdin="-r r.txt\n").must()
    assert "torch" not in installed(piped.err), piped.err
    # An option insists, and the build that is said is the one that is there.
    anew = project.uvtorch("pip", "install", "-r", "r.txt", "--torch-backend", "auto", machine="cpu-only").must()
    assert {name: installed(anew.err)[name] for name in ("torch", "torchvision")} == {
        "torch": "2.15.0+cpu",
        "torchvision": "0.29.2+cpu",
    }


SHOW = "import importlib.metadata as m; print(m.version('torch'), m.version('jinja2'))"


def test_run_with_takes_the_build_of_the_project_else_the_one_that_fits(project: Project) -> None:
    run = ("run", "--with", "torch", "--with", "jinja2", "python", "-c", SHOW)
    loose = project.uvtorch(*run, machine="gtx1080-580").must()
    assert loose.out.startswith("2.14.1+cu126 ")
    assert not loose.out.endswith(" 3.1.4\n"), "an old copy on PyTorch's index"
    assert "whl" not in (project.path / "uv.lock").read_text()
    project.write(PINNED)
    joined = project.uvtorch("run", "--with", "torchvision", "python", "-c", SHOW, machine="h200-580").must()
    assert (joined.out[:13], joined.ours) == ("2.14.1+cu126 ", [])
    brings = (*run[:2], "timm", "python", "-c", "import importlib.metadata as m; print(m.version('torchvision'))")
    assert project.uvtorch(*brings, machine="h200-580").must().out == "0.29.1+cu126\n"
    project.write(PINNED.replace('["torch"]', '["torch==2.9.1"]')).uv("lock").must()
    release = project.uvtorch("run", "--with", "torchvision", "python", "-c", SHOW, machine="h200-580").must()
    assert release.out.startswith("2.9.1+cu126 ")  # not the one that the newest torchvision needs
    wheel = "torch = { url = 'BASE/cpu/torch/torch-2.14.1%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl' }\n"
    project.write(PINNED.replace(SOURCE, wheel.replace("cp312", f"cp{sys.version_info[0]}{sys.version_info[1]}")))
    joined = project.uvtorch("run", "--with", "torchvision", "python", "-c", SHOW, machine="h200-580").must()
    assert joined.out.partition(" ")[0].endswith("+cpu")
    project.write(PINNED)
    before = project.state()
    asked = (["torchvision"], ["timm"])
    for words in (*(["--torch-backend", "cpu", "--with", *one] for one in asked), ["--with", "torch==2.9.1+cpu"]):
        refused = project.uvtorch("run", *words, "python", "-c", SHOW).must(2).err
        assert "from cpu, and the project pins cu126" in refused
        assert "hint: `uvtorch torch use cpu` pins the project anew" in refused
    assert project.state() == before
    apart = project.uvtorch("run", "--no-project", "--with", "torch", "python", "-c", SHOW, machine="cpu-only").must()
    assert apart.out.startswith("2.15.0+cpu ")


def test_what_comes_through_a_pipe_is_read_and_left_to_uv(place: Project) -> None:
    words = ("pip", "compile", "--no-header", "--no-annotate", "-")
    compiled = place.uvtorch(*words, machine="gtx1080-580", stdin="timm\ntorch\n").must()
    assert {"torch==2.14.1+cu126", "timm==1.0.22"} <= {*compiled.out.splitlines()}
    compiled = place.uvtorch(*words, machine="gtx1080-580", stdin="timm\n", UV_TORCH_BACKEND="auto").must()
    assert {"torch==2.14.1+cu126", "torchvision==0.29.1+cu126"} <= {*compiled.out.splitlines()}
    place.uvtorch("add", "-r", "-", "--no-sync", machine="gtx1080-580", stdin="torch\n").must()
    assert "pytorch-cu126" in place.text
    place.write(BARE.replace("[]", '["torch"]'))
    before = place.state()
    script = '# /// script\n# dependencies = ["jinja2"]\n# ///\nprint("ran")\n'
    ran = place.uvtorch("run", "--auto", "-", stdin=script).must()  # it has nothing of the project's
    assert (ran.out, "a script from standard input is run as it is" in ran.err) == ("ran\n", True)
    assert place.state() == before


def test_a_tool_runs_with_what_was_chosen(project: Project) -> None:
    words = ("tool", "run", "--with", "torch", "--from", "jinja2", "python", "-c", SHOW)
    assert project.uvtorch(*words, machine="gtx1080-580").must().out.startswith("2.14.1+cu126 ")


def test_bad_input_is_told_by_uv_or_in_one_line(place: Project) -> None:
    before = place.state()
    unknown = place.uvtorch("pip", "install", "torch", "no-such-package").must(1)
    assert "no-such-package was not found" in unknown.err
    piped = place.uvtorch("add", "-r", "-", stdin="torch\nno-such-package\n").must(1)  # uv is asked twice
    assert "no-such-package was not found" in piped.err
    missing = place.uvtorch("pip", "install", "torch", "-r", "missing.txt").must(2)
    assert "missing.txt" in missing.err
    base = f"{place.home.server.url}/down"
    down = place.uvtorch("pip", "install", "torch", UVTORCH_INDEX_BASE=base, UV_HTTP_RETRIES="0").err
    assert "error: " in down
    assert "Traceback" not in unknown.err + missing.err + down
    assert place.state() == before
