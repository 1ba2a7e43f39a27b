"""Files, names and variables that nobody means well with: one `error:` line, nothing that acts on the terminal."""

import os
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.recording_uv import RecordingUv
from uvtorch import cli, files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="FIFOs, and programs of POSIX")

TOML = '[project]\nname = "demo"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["torch"]\n'
DEEP = ".a" * 3000
SCRIPT = "# /// script\n# dependencies = ['torch']\n# {}\n# ///\n"

Run = Callable[..., tuple[int, str, str]]


class HandedOver(BaseException):
    """uv would take over now."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """uvtorch in this process, in a directory with these files: exit code, stdout and stderr."""
    recording = RecordingUv(tmp_path / "bin" / "uv")

    def hand_over(path: str, args: object) -> None:
        raise HandedOver

    def run(words: list[str], env: Mapping[str, str] | None = None, **content: str | None) -> tuple[int, str, str]:
        monkeypatch.setattr("uvtorch.uv.hand_over", hand_over)
        place = tmp_path / "place"
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        for name, text in {"pyproject_toml": TOML, **content}.items():
            path = place / name.replace("_", ".")
            path.unlink(missing_ok=True)
            if text is None:
                os.mkfifo(path)
            else:
                path.write_text(text, encoding="utf-8", errors="surrogateescape")
        monkeypatch.setattr(sys, "argv", ["uvtorch", *words])
        for name, value in {"UVTORCH_UV": str(recording.path), **(env or {})}.items():
            monkeypatch.setenv(name, value)
        try:
            code = cli.run()
        except HandedOver:
            code = 0
        return (code, *capfd.readouterr())

    return run


ESCAPE = "\x1b]0;owned\x07"
NOT_UTF8 = "\udcff"

REFUSED: dict[str, tuple[list[str], dict[str, str], dict[str, str | None], str]] = {
    "dots": (["sync", "--auto"], {}, {"pyproject_toml": TOML + f"[tool.x]\na{DEEP} = 1\n"}, "is nested too deeply"),
    "dots in a header": (["remove", "torch"], {}, {"pyproject_toml": TOML + f"[a{DEEP}]\n"}, "is nested too deeply"),
    "dots in a script": (
        ["torch", "use", "cpu", "--script", "s.py"],
        {},
        {"s_py": SCRIPT.format(f"a{DEEP} = 1")},
        "is nested too deeply",
    ),
    "a FIFO as a lock": (["add", "torch"], {}, {"uv_lock": None}, "it is not a regular file"),
    "a FIFO as a script": (["torch", "use", "cpu", "--script", "s.py"], {}, {"s_py": None}, "it is not a regular file"),
    "a FIFO as a machine": (["torch", "explain", "--hardware", "m"], {}, {"m": None}, "it is not a regular file"),
    "an endless machine": (["torch", "detect", "--hardware", "/dev/zero"], {}, {}, "it is not a regular file"),
    "endless extensions": (["add", "flash-attn"], {"UVTORCH_EXTENSIONS": "/dev/zero"}, {}, "it is not a regular file"),
    "an endless catalog": (
        ["torch", "list"],
        {"UVTORCH_CATALOG": "."},
        {"builds_toml": None},
        "it is not a regular file",
    ),
    "an escape in a backend": (["torch", "use", ESCAPE], {}, {}, r"`\x1b]0;owned\x07` is not a backend"),
    "an escape in a verb": (["torch", ESCAPE], {}, {}, r"\x1b]0;owned\x07"),
    "an escape in an option": (["torch", "list", f"--{ESCAPE}"], {}, {}, r"\x1b]0;owned\x07"),
    "an escape in a variable": (["add", "torch"], {"UV_TORCH_BACKEND": ESCAPE}, {}, r"\x1b]0;owned\x07"),
    "an escape in a key": (
        ["sync", "--auto"],
        {},
        {"pyproject_toml": TOML + '[tool.uvtorch]\n"\\u001b]0;owned\\u0007" = 1\n'},
        r"\x1b]0;owned\x07",
    ),
    "bytes in a backend": (["torch", "use", NOT_UTF8], {}, {}, r"`\xff` is not a backend"),
    "bytes in a requirement": (["torch", "explain", f"torch{NOT_UTF8}"], {}, {}, r"torch\udcff"),
    "bytes in a lock": (["torch", "doctor"], {}, {"uv_lock": NOT_UTF8}, "uv.lock"),
    "bytes in a project": (["sync", "--auto"], {}, {"pyproject_toml": NOT_UTF8}, "is not UTF-8: byte 0xff in line 1"),
    "a password in a variable": (
        ["torch", "explain"],
        {"UVTORCH_INDEX_BASE": "https://me:secret@example.com/whl"},
        {},
        "https://****@example.com/whl', which holds credentials",
    ),
    "a password in the configuration": (
        ["add", "torch"],
        {},
        {"pyproject_toml": TOML + '[tool.uvtorch]\nindex-base = "https://me:secret@example.com/whl"\n'},
        "https://****@example.com/whl', which holds credentials",
    ),
    "a password in a requirement": (
        ["torch", "explain", "torch @@ https://me:secret@example.com/x"],
        {},
        {},
        "https://****@example.com/x",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_line_says_what_is_wrong(case: str, run: Run) -> None:
    words, env, content, says = REFUSED[case]
    code, out, err = run(words, env, **content)
    first, *hints = err.splitlines()
    assert (code, out) == (2, "")
    assert first.startswith("error: ")
    assert says in first
    assert all(line.startswith("hint: ") for line in hints)
    assert "secret" not in err
    assert not any(char in err for char in "\x1b\x07\udcff")


@pytest.mark.parametrize(
    "verb", [["explain"], ["explain", "--json"], ["backends"], ["use", "cu130", "--dry-run"]], ids=" ".join
)
def test_no_password_of_a_project_is_shown(verb: list[str], run: Run) -> None:
    index = 'name = "a"\nurl = "https://me:secret@example.com/whl/cu126"\nexplicit = true\n'
    sources = f'[tool.uv.sources]\ntorch = {{ index = "a" }}\n[[tool.uv.index]]\n{index}'
    code, out, err = run(["torch", *verb], pyproject_toml=TOML + sources)
    assert code == 0
    assert out
    assert "secret" not in out + err
    assert "--dry-run" not in verb or "****@example.com" in out


DAMAGE = ("\0", NOT_UTF8, "[", "]]", '"', "\r", "\x1b[2J", "\ufeff", "[tool.uv]\n", "")
LOCK = 'version = 1\nrequires-python = ">=3.11"\n\n[[package]]\nname = "torch"\nversion = "2.9.1"\n'
VERBS = ("add torch --dry-run", "remove torch --dry-run", "torch doctor", "torch backends", "sync --auto", "lock")


@pytest.mark.parametrize("verb", VERBS)
def test_damaged_files_and_words_are_errors_and_no_faults(verb: str, run: Run) -> None:
    """The short form of the fuzzing in benchmarks/faults.py."""
    dice = random.Random(verb)

    def damaged(text: str) -> str:
        for at in (dice.randrange(len(text) + 1) for _ in range(dice.randrange(3))):
            text = text[:at] + dice.choice(DAMAGE) + text[at + dice.choice((0, 1, 9)) :]
        return text

    for _ in range(12):
        extra = dice.choice(([], [damaged("torch").replace("\0", "")]))  # no command line holds a NUL
        code, out, err = run(verb.split() + extra, pyproject_toml=damaged(TOML), uv_lock=damaged(LOCK))
        assert code in (0, 1, 2)
        assert not any(char in out + err for char in "\0\x1b\udcff")


def test_a_fifo_beside_a_requirement_is_left_to_uv(run: Run) -> None:
    """`-r <(echo torch)`: what uvtorch read, uv could not read again."""
    code, _, err = run(["add", "-r", "r"], r=None)
    assert (code, err) == (0, "")


def test_only_regular_files_of_a_limited_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfa\xff")
    assert (files.read(str(path)), files.text(str(path))) == (b"\xef\xbb\xbfa\xff", "a\ufffd")
    for wrong, says in {
        path: "larger than 4 bytes", tmp_path: "directory", tmp_path / "none": "No such file",
        "/dev/null": "not a regular file", "a\0": "not a file's name",
    }.items():  # fmt: skip
        with pytest.raises(OSError, match=says):
            files.read(str(wrong), 4)
