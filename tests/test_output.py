"""What is printed: colour by uv's rule, the terminal's width, nothing that acts on a terminal, no password."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from uv import find_uv_bin

from tests.conftest import MACHINES
from tests.situations import choices
from uvtorch import cli
from uvtorch.argv import OURS, TORCH_VERBS, parse
from uvtorch.errors import UsageError, UvtorchError
from uvtorch.output import Output, clean, wrapped
from uvtorch.session import Session
from uvtorch.steps import verb as torch_verbs

OFFERING = '[project]\nname = "demo"\nversion = "0"\nrequires-python = ">=3.11"\n' + choices(
    cpu="https://example.com/whl/cpu", cu126="https://example.com/whl/cu126"
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")

TOML = '[project]\nname = "demo"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["torch"]\n'


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, *words: str, **env: str) -> tuple[Output, Terminal]:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    return Output(parse([*words]), {"TERM": "xterm", "COLUMNS": str(columns), **env}), stream


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("torch 2.15.0 ™ 日本", "torch 2.15.0 ™ 日本"),
        ("\x1b]0;owned\x07\x1b[31mred", r"\x1b]0;owned\x07\x1b[31mred"),
        ("one\r\nhint: rm -rf\ttab", r"one\r\nhint: rm -rf\ttab"),
        ("\x9b31m\u202egnp.exe\u2028\ufeff", r"\x9b31m\u202egnp.exe\u2028\ufeff"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("https://me:secret@example.com/\x1b", r"https://****@example.com/\x1b"),
    ],
)
def test_a_text_acts_on_no_terminal_and_tells_no_password(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_lines_break_between_words_and_never_inside_a_command() -> None:
    text = "torch needs a driver: run `uv sync --extra cu126` first, or `uv run x`"
    assert wrapped(text, 24) == [
        "torch needs a driver:",
        "run",
        "`uv sync --extra cu126`",
        "first, or `uv run x`",
    ]


def test_messages_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out, stream = on_terminal(monkeypatch, 40)
    out.say("using cu126 (torch 2.14.1): the driver supports CUDA 13.0")
    out.warn("no GPU")
    out.error(UvtorchError("no \x1b", "`uv sync`"))
    assert stream.getvalue() == (
        "uvtorch: \x1b[1musing cu126 (torch 2.14.1)\x1b[0m: the\n         driver supports CUDA 13.0\n"
        "\x1b[1;33mwarning\x1b[0m\x1b[1m:\x1b[0m \x1b[1mno GPU\x1b[0m\n"
        "\x1b[1;31merror\x1b[0m\x1b[1m:\x1b[0m no \\x1b\n"
        "\x1b[1;36mhint\x1b[0m\x1b[1m:\x1b[0m `uv sync`\n"
    )


def test_a_verb_that_is_misspelt_is_guessed() -> None:
    for words, remedy in (
        (["explian"], "did you mean `uvtorch torch explain`?"),
        (["zzz"], "`uvtorch torch --help` lists the verbs"),
        (["list", "--no"], "`uvtorch torch list --help` shows what it takes"),
    ):
        with pytest.raises(UsageError) as refusal:
            torch_verbs.run(words, Session(parse([]), {}))
        assert refusal.value.hints == (remedy,)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("`uvtorch torch use auto` pins", "`uvtorch torch use auto --project 'a b'` pins"),
        ("`uv sync` installs, `uv lock` not", "`uv sync --project 'a b'` installs, `uv lock --project 'a b'` not"),
        ("`uvtorch torch use cpu --script s.py` pins", None),
        ("`uvtorch --directory p add torch`; `uvtorch torch list` and `uv run x`", None),
    ],
)
def test_a_remedy_is_for_the_project_that_is_meant(
    capsys: pytest.CaptureFixture[str], told: str, shown: str | None
) -> None:
    Output(parse(["sync", "--auto", "--project", "a b"]), {}).warn(told)
    assert capsys.readouterr().err == f"warning: {shown or told}\n"


def test_messages_elsewhere_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(parse(["-q"]), {})
    out.error(UvtorchError("long " * 60, "hint"))
    out.say("not with -q")
    out.warn("not with -q")
    assert capsys.readouterr() == ("", f"error: {'long ' * 60}\nhint: hint\n")


ENVIRONMENTS = ["", "NO_COLOR=1 FORCE_COLOR=1", "NO_COLOR= FORCE_COLOR=0", "CLICOLOR_FORCE=1", "FORCE_COLOR="]
OPTIONS: list[list[str]] = [[], ["--color", "never"], ["--color", "always"], ["--no-color"]]


@posix
@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_uvs_own_rule_for_colour(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of uv as well: neither is on a terminal here."""
    for text in ENVIRONMENTS:
        env = dict(word.split("=") for word in text.split())
        given = {"PATH": os.environ["PATH"], **env}
        uv = subprocess.run(
            [find_uv_bin(), *options, "lock"], env=given, cwd=tmp_path, capture_output=True, check=False
        )
        assert uv.returncode == 2
        assert (b"\x1b[" in uv.stderr) == Output(parse([*options, "lock"]), env).in_color(sys.stderr), (options, env)
    _, stream = on_terminal(monkeypatch, 80)
    for env, colored in (
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
        ({"WT_SESSION": "1"}, True),
    ):
        expected = colored if not options else "always" in options
        assert Output(parse(options), env).in_color(stream) is expected


def test_json_is_masked_and_else_as_json_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    out, stream = on_terminal(monkeypatch, 20, FORCE_COLOR="1")
    document = {"a": ["https://me:x@example.com/y", 'line "\n\x1b é'], "b": (None, True, 1.5)}
    out.json(document)
    assert json.loads(stream.getvalue()) == {
        "a": ["https://****@example.com/y", 'line "\n\x1b é'],
        "b": [None, True, 1.5],
    }
    assert "\x1b" not in stream.getvalue()


def test_a_diff_is_escaped_on_a_terminal_and_exact_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["# using \x1b", "+a = '\x1b'\r", "-url = 'https://me:x@example.com'", "$ uv add \x1b"]
    Output(parse([]), {}).script(lines)
    shown = "# using \\x1b\n+a = '\x1b'\r\n-url = 'https://****@example.com'\n$ uv add \\x1b\n"
    assert capsys.readouterr().out == shown
    out, stream = on_terminal(monkeypatch, 80, NO_COLOR="1")
    out.script(lines)
    assert stream.getvalue() == shown.replace("\x1b", "\\x1b").replace("\r", "")


def test_a_table_fits_and_its_text_goes_below_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("*", "cu126", "the driver supports CUDA 13.0 and more"), (), ("A heading",), ("", "cpu", "no GPU")]
    out, stream = on_terminal(monkeypatch, 40, NO_COLOR="1")
    out.table(rows, ("", "build", "why"))
    assert stream.getvalue().splitlines() == [
        "   build  why",
        "*  cu126  the driver supports CUDA 13.0",
        "          and more",
        "",
        "A heading",
        "   cpu    no GPU",
    ]
    out, stream = on_terminal(monkeypatch, 30)
    out.table(rows[:1], ("", "build", "why"))
    assert stream.getvalue().splitlines() == [
        "\x1b[1m   build\x1b[0m",
        "\x1b[1m    why\x1b[0m",
        "\x1b[1m*  cu126\x1b[0m",
        "\x1b[1m    the driver supports CUDA\x1b[0m",
        "\x1b[1m    13.0 and more\x1b[0m",
    ]


def test_what_takes_long_is_shown_and_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    out, stream = on_terminal(monkeypatch, 30)
    with out.working("asking the index of cu134 and others"):
        time.sleep(0.7)
        out.warn("slow")
    shown = stream.getvalue()
    assert shown.startswith("⠋ asking the index of cu134 a\r\x1b[2K")
    assert re.search(r"\r\x1b\[2K\S*warning\S* \S*slow\S*\n", shown)
    assert shown.endswith(("\n", "\r\x1b[2K"))
    for words, env in ((["-q"], {}), (["--no-progress"], {}), ([], {"UV_NO_PROGRESS": "1"}), ([], {"TERM": "dumb"})):
        out, _ = on_terminal(monkeypatch, 30, *words, **env)
        assert not out.shows_progress
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not out.shows_progress


def in_terminal(command: list[str], columns: int, env: dict[str, str], cwd: Path) -> str:
    """What a command prints in a terminal of so many columns."""
    import fcntl
    import pty
    import struct
    import termios

    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    child = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, env=env, cwd=cwd)
    os.close(secondary)
    shown = b""
    try:
        while piece := os.read(primary, 65536):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(primary)
    child.wait()
    return shown.decode().replace("\r\n", "\n")


@posix
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_terminal_of_each_width(columns: int, launcher: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(TOML)
    env = {"PATH": os.environ["PATH"], "TERM": "xterm", "UVTORCH_HARDWARE": str(MACHINES / "gtx1080-580.json")}
    command = [str(launcher), "add", "torch", "--torch-backend"]
    refused = in_terminal([*command, "CU12.6"], columns, env, tmp_path)
    assert refused.startswith("\x1b[1;31merror\x1b[0m\x1b[1m:\x1b[0m --torch-backend: `CU12.6` is not a")
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= columns for line in refused.splitlines())
    assert "\x1b" not in in_terminal([*command, "CU12.6"], columns, {**env, "NO_COLOR": "1"}, tmp_path)


def test_every_example_of_the_help_can_be_typed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """click reads each; and each verb has some, in its help."""
    for name in ("", *TORCH_VERBS):
        words = [name] if name else []
        assert torch_verbs.run([*words, "--help"], Session(parse([]), {})) == 0
        shown = capsys.readouterr().out
        examples = re.findall(r"^ +uvtorch torch ((?:\S+ ?)+)", shown.partition("Examples:")[2], re.MULTILINE)
        assert examples, name
        for example in examples:
            verb, *arguments = shlex.split(example.partition(" > ")[0])
            assert name in ("", verb)
            group = click.Context(torch_verbs.torch, help_option_names=["-h", "--help"])
            command = torch_verbs.torch.get_command(group, verb)
            assert command
            command.make_context(verb, arguments, group, obj=Session(parse([]), {}))
    for verb, rows in cli._EXAMPLES.items():
        for row in rows:
            line = parse(shlex.split(row[0])[1:])
            assert (line.verb or "").split()[0] == verb
            assert line.unknown is None
    assert set(cli._EXAMPLES) == {*OURS}


CAPTURES = Path(__file__).parent / "captures.txt"
SHOWN = {
    "explain": ["torch", "explain", "--hardware", "gtx1080", "--compare"],
    "refused": ["torch", "explain", "torch==2.15.0", "--hardware", str(MACHINES / "h100-535.json")],
    "detect": ["torch", "detect", "--hardware", str(MACHINES / "broken-mismatch.json")],
    "list": ["torch", "list", "--release", "2.14.1"],
    "backends": ["torch", "backends", "--hardware", "h100"],
    "use": ["torch", "use", "CU12.6"],
    "use dry run": ["--project", "single", "torch", "use", "auto", "--dry-run"],
    "doctor": ["torch", "doctor"],
    "help": ["torch", "use", "--help"],
    "choices dry run": ["add", "torch", "--dry-run"],
    "dry run": ["--project", "single", "add", "torch", "--dry-run"],
}


def test_captures_at_each_width_are_as_they_were_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, for speed; WRITE_CAPTURES=1 writes them anew, for a person to look at."""
    (tmp_path / "pyproject.toml").write_text(OFFERING)
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "pyproject.toml").write_text(TOML)
    (tmp_path / "uv").write_text("#!/bin/sh\necho uv 0.13.9\n")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("UVTORCH_UV", "./uv")
    monkeypatch.setenv("UVTORCH_HARDWARE", str(MACHINES / "gtx1080-580.json"))

    def capture(words: list[str], columns: int, no_color: str = "") -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(sys, "argv", ["uvtorch", *words])
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        cli.run()
        return stream.getvalue()

    text = ""
    for name, words in SHOWN.items():
        for columns in (60, 80, 120):
            colored, plain = capture(words, columns), capture(words, columns, "1")
            assert "\x1b[" in colored
            assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain
            wide = [line for line in plain.splitlines() if len(line) > columns]
            assert "dry run" in name or not wide, (name, wide)
            text += f"=== {name}, {columns} columns\n{colored if columns == 80 else plain}\n"
    text = re.sub(r"as of [0-9-]+", "as of (a day)", text.replace("\x1b", "\\e"))
    if os.environ.get("WRITE_CAPTURES"):
        CAPTURES.write_text(text, encoding="utf-8")
    assert text == CAPTURES.read_text(encoding="utf-8")
