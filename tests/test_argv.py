"""uv's command line as uvtorch reads it: the tables against the installed uv, and how a line is taken apart."""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.examples import given
from uvtorch import argv
from uvtorch.argv import GLOBAL_FLAGS, GLOBAL_VALUES, TOP_FLAGS, parse, tables
from uvtorch.errors import UsageError

VERBS = sorted(argv.VERBS - argv.INSTALLERS)  # those are held against uv in tests/test_pip.py

# Spellings that uv takes but tells nobody about, neither in its help nor in its completions; found by trying them.
HIDDEN_VALUES = {
    "add": {"--requirement", "--constraint", "--config-settings", "--trusted-host", "--preview-feature"},
    "remove": {"--config-settings", "--trusted-host", "--preview-feature"},
    "sync": {"--config-settings", "--trusted-host", "--preview-feature"},
    "run": {"--config-settings", "--trusted-host", "--preview-feature"},
    "export": {"--config-settings", "--trusted-host", "--preview-feature"},
    "lock": {"--config-settings", "--trusted-host", "--preview-feature"},
}
HIDDEN_FLAGS = {
    "add": {"--no-cache-dir", "--force-reinstall", "--compile", "--no-compile"},
    "remove": {"--no-cache-dir", "--force-reinstall", "--compile", "--no-compile"},
    "sync": {"--no-cache-dir", "--force-reinstall", "--compile", "--no-compile"},
    "run": {"--no-cache-dir", "--force-reinstall", "--compile", "--no-compile"},
    "export": {"--no-cache-dir"},
    "lock": {"--no-cache-dir"},
}


def uv() -> str:
    path = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    assert path, "the extra `test` installs uv"
    return path


@functools.cache
def said(*args: str) -> str:
    return subprocess.run([uv(), *args], capture_output=True, encoding="utf-8", check=True).stdout


@functools.cache
def completed(verb: str | None) -> tuple[frozenset[str], frozenset[str]]:
    """The options that uv's completion for zsh lists, hidden ones included: those with a value, and those without.

    A row is `'(excludes)*--name=[help]:VALUE:…'`, `'-n+[help]…'` with a value, `'--name[help]'` without.
    """
    text = said("generate-shell-completion", "zsh")
    section = text if verb is None else text.partition(f"\n({verb})\n_arguments ")[2]
    section = section.partition("&& ret=0")[0]
    rows = re.findall(r"^'(?:\([^)]*\))?\*?(--?[\w-]+)([=+]?)\[", section, flags=re.MULTILINE)
    assert len(rows) > 20, "the completion script is written in another way now"
    values = frozenset(name for name, sign in rows if sign)
    return values, frozenset(name for name, _ in rows) - values


def helped(verb: str) -> tuple[frozenset[str], frozenset[str]]:
    """The same from `uv <verb> --help`, which hides some: rows like `  -p, --python <PYTHON>  …`."""
    rows = re.findall(r"^ {2,6}(?:(-\w), )?(--[\w-]+)( <)?", said(verb, "--help"), flags=re.MULTILINE)
    assert len(rows) > 20, "the help is written in another way now"
    names = [(name, bool(value)) for short, long, value in rows for name in (short, long) if name]
    return frozenset(name for name, value in names if value), frozenset(name for name, value in names if not value)


def taken(verb: str) -> tuple[frozenset[str], frozenset[str]]:
    """What uv takes, told or not."""
    values, flags = completed(verb)
    return values | HIDDEN_VALUES[verb], flags | HIDDEN_FLAGS[verb]


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_uv_is_in_the_tables(verb: str) -> None:
    (values, flags), (ours, our_flags) = taken(verb), tables(verb)
    assert not values - ours | flags - our_flags
    assert not values & our_flags | flags & ours


def test_nothing_is_in_the_tables_that_no_verb_takes() -> None:
    everywhere = set(re.findall(r"\*?(--?[\w-]+)[=+]?\[", said("generate-shell-completion", "zsh")))
    hidden = {"--build-constraint", "--override"}.union(*HIDDEN_VALUES.values(), *HIDDEN_FLAGS.values())
    assert set().union(*tables("add")) - everywhere - hidden == set()


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_tells_the_same_as_the_completion(verb: str) -> None:
    values, flags = helped(verb)
    assert values <= tables(verb)[0]
    assert flags <= tables(verb)[1]
    assert len(values) > 10


def test_the_options_before_the_verb() -> None:
    values, flags = completed(None)
    hidden = {"--trusted-host", "--preview-feature"}, {"--no-cache-dir"}
    assert argv.options(GLOBAL_VALUES) == values | hidden[0]
    assert argv.options(GLOBAL_FLAGS, TOP_FLAGS) == flags | hidden[1]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", sorted(set().union(*HIDDEN_VALUES.values(), *HIDDEN_FLAGS.values())))
def test_uv_takes_the_spellings_that_it_does_not_tell(verb: str, name: str) -> None:
    """`uv lock --compile` fails, `uv lock --no-cache-dir` does not: as the tables have it."""
    value = any(name in names for names in HIDDEN_VALUES.values())
    option = f"{name}={'a=b' if name == '--config-settings' else 'https://example.com'}" if value else name
    done = subprocess.run([uv(), verb, option, "--help"], capture_output=True, check=False)
    assert (done.returncode == 0) == (name in HIDDEN_VALUES[verb] | HIDDEN_FLAGS[verb])


@pytest.mark.parametrize("verb", VERBS)
def test_uv_reads_a_value_after_an_option_as_the_tables_say(verb: str) -> None:
    """uv itself, asked: after `--name`, a word that no option starts with is a value, or is left over.

    What several verbs have is asked of the first; that it takes a value with each of them is in uv's completion.
    """
    flags = sorted(taken(verb)[1] - {"--help", "-h"})
    # One that took a value would swallow `--help`'s place: all of them, in one command line.
    done = subprocess.run([uv(), verb, *flags, "--help"], capture_output=True, encoding="utf-8", check=False)
    assert "unexpected argument" not in done.stderr
    assert "a value is required" not in done.stderr
    asked = set().union(*(taken(other)[0] for other in VERBS[: VERBS.index(verb)]))
    for name in sorted(taken(verb)[0] - asked):
        alone = subprocess.run([uv(), verb, name], capture_output=True, encoding="utf-8", check=False)
        assert "a value is required" in alone.stderr, name


def test_our_options_are_none_of_uvs() -> None:
    """The day uv has one of them, uvtorch must decide what to do, not take it away."""
    for verb in VERBS:
        assert not {*argv.OURS[verb]} & set().union(*taken(verb))


def test_every_alias_stands_for_an_option_of_the_tables() -> None:
    names = set().union(*tables("add"), argv.options(TOP_FLAGS))
    assert {*argv.ALIASES} | {*argv.ALIASES.values()} <= names
    for short, long in argv.ALIASES.items():
        for verb in VERBS:
            values, flags = tables(verb)
            if short in values | flags and long in values | flags:
                assert (short in values) == (long in values)


@pytest.mark.parametrize("verb", VERBS)
def test_every_short_option_that_means_the_same_everywhere_has_its_long_name(verb: str) -> None:
    shorts = {name for name in set().union(*taken(verb)) if not name.startswith("--")}
    assert shorts - {*argv.ALIASES} <= {"-m", "-s"}


@pytest.mark.parametrize("verb", VERBS)
def test_every_value_is_read_in_every_form(verb: str) -> None:
    for name in taken(verb)[0]:
        long = argv.ALIASES.get(name, name)
        forms = [[name, "v"], [f"{name}=v"]]
        if not name.startswith("--"):
            forms += [[f"{name}v"], [f"-q{name[1:]}v"], [f"-q{name[1:]}=v"], [f"-qv{name[1:]}", "v"]]
        for form in forms:
            line = parse([verb, *form, "torch"])
            assert line.values(long) == ["v"], form
            assert (line.positionals, line.unknown, line.verb) == (["torch"], None, verb), form
            assert line.argv == [verb, *form, "torch"]
            empty = parse([verb, f"{name}=", "torch"])
            assert (empty.values(long), empty.positionals) == ([""], ["torch"])
            missing = parse([verb, name])
            assert (missing.options, missing.unknown) == ([(long, None)], None)


@pytest.mark.parametrize("verb", VERBS)
def test_no_flag_takes_a_value(verb: str) -> None:
    for name in taken(verb)[1]:
        line = parse([verb, name, "torch"])
        assert line.options == [(argv.ALIASES.get(name, name), None)]
        assert line.positionals == ["torch"]
        if name in argv.options(GLOBAL_FLAGS) - {"--help", "-h"}:
            before = parse([name, verb, "torch"])
            assert (before.options, before.positionals, before.verb) == (line.options, ["torch"], verb)


@pytest.mark.parametrize("name", sorted(argv.options(GLOBAL_VALUES)))
def test_global_values_count_before_and_after_the_verb(name: str) -> None:
    for words in ([name, "v", "add", "torch"], [f"{name}=v", "add", "torch"], ["add", "torch", name, "v"]):
        line = parse(words)
        assert (line.verb, line.value(name), line.positionals) == ("add", "v", ["torch"])


@pytest.mark.parametrize(
    ("words", "verb", "positionals", "unknown"),
    [
        ([], None, [], None),
        (["--"], None, [], None),
        (["--", "add"], None, ["add"], None),
        (["-"], "-", [], None),
        (["", "add"], "", ["add"], None),
        (["add"], "add", [], None),
        (["add", "--", "torch", "--dev"], "add", ["torch", "--dev"], None),
        (["add", "torch", "--", "--torch-backend", "cpu"], "add", ["torch", "--torch-backend", "cpu"], None),
        (["add", "-", ""], "add", ["-", ""], None),
        (["add", "torch", "--dev", "timm", "-q"], "add", ["torch", "timm"], None),
        (["run", "pytest", "-q", "--auto"], "run", ["pytest", "-q", "--auto"], None),
        (["run", "--", "-q"], "run", ["-q"], None),
        (["run", "-m", "pytest", "-m", "slow"], "run", ["pytest", "-m", "slow"], None),
        (["run", "--with", "x", "python", "--with", "y"], "run", ["python", "--with", "y"], None),
        (["run", "-", "--auto"], "run", ["-", "--auto"], None),
        (["run", "", "--auto"], "run", ["", "--auto"], None),
        (["--directory", "add", "sync", "x"], "sync", ["x"], None),
        (["--unknown", "add", "torch"], "add", ["torch"], "--unknown"),
        (["add", "-qX", "torch"], "add", ["torch"], "-X"),
        (["add", "-Xq", "--other"], "add", [], "-X"),
        (["add", "--index-ur", "x"], "add", ["x"], "--index-ur"),
        (["pip", "--auto", "--torch-backend"], "pip", [], "--auto"),
        (["pip", "list", "--auto", "--torch-backend"], "pip list", ["--auto", "--torch-backend"], None),
        (["pip", "-q", "install", "-e", ".", "torch", "--strict"], "pip install", ["torch"], None),
        (["pip", "torch", "-q"], "pip torch", ["-q"], None),
        (["tool", "run", "--with", "x", "httpie", "--with", "y"], "tool run", ["httpie", "--with", "y"], None),
        (["torch", "use", "--help", "--", "x"], "torch", ["use", "--help", "--", "x"], None),
        (["--version", "add", "torch"], None, ["add", "torch"], None),
        (["-qV", "add"], None, ["add"], None),
        (["-h", "add", "--torch-backend", "x"], None, ["add", "--torch-backend", "x"], None),
        (["add", "--version"], "add", [], "--version"),
    ],
    ids=str,
)
def test_verb_and_positionals(words: list[str], verb: str | None, positionals: list[str], unknown: str | None) -> None:
    line = parse(words)
    assert (line.verb, line.positionals, line.unknown) == (verb, positionals, unknown)
    assert line.argv == words
    assert [line.argv[at] for at in line.positionals_at] == positionals
    if verb is not None:
        assert line.argv[line.verb_at] == verb.split(" ")[-1]


@pytest.mark.parametrize(
    ("words", "ours", "rest"),
    [
        (["add", "torch", "--torch-backend", "cpu"], [("--torch-backend", "cpu")], ["add", "torch"]),
        (["add", "--torch-backend=cpu", "torch"], [("--torch-backend", "cpu")], ["add", "torch"]),
        (["add", "--torch-backend=", "torch"], [("--torch-backend", "")], ["add", "torch"]),
        (["add", "torch", "--torch-backend"], [("--torch-backend", None)], ["add", "torch"]),
        (["add", "--dry-run", "torch", "--dev"], [("--dry-run", None)], ["add", "torch", "--dev"]),
        (["remove", "torch", "--dry-run"], [("--dry-run", None)], ["remove", "torch"]),
        (["sync", "--auto", "-q"], [("--auto", None)], ["sync", "-q"]),
        (["sync", "--auto=yes"], [("--auto", "yes")], ["sync"]),
        (["sync", "--dry-run"], [], ["sync", "--dry-run"]),
        (["lock", "--dry-run", "--torch-backend", "cpu"], [("--torch-backend", "cpu")], ["lock", "--dry-run"]),
        (
            ["run", "--auto", "--", "pytest", "--", "-k", "x"],
            [("--auto", None)],
            ["run", "--", "pytest", "--", "-k", "x"],
        ),
        (["run", "--auto", "python", "--auto"], [("--auto", None)], ["run", "python", "--auto"]),
        (["run", "--with", "--auto", "x"], [], ["run", "--with", "--auto", "x"]),
        (
            ["export", "--torch-backend", "cpu", "--auto", "-o", "--auto"],
            [("--torch-backend", "cpu"), ("--auto", None)],
            ["export", "-o", "--auto"],
        ),
        (["--directory", "--auto", "sync", "--auto"], [("--auto", None)], ["--directory", "--auto", "sync"]),
    ],
    ids=str,
)
def test_our_options_are_taken_out(words: list[str], ours: list[tuple[str, str | None]], rest: list[str]) -> None:
    line = parse(words)
    assert (line.ours, line.argv, line.unknown) == (ours, rest, None)
    assert [line.argv[at] for at in line.positionals_at] == line.positionals


@pytest.mark.parametrize(
    ("verb", "name"),
    [("remove", "--torch-backend"), ("lock", "--auto"), ("add", "--auto"), ("remove", "--auto")],
)
def test_our_options_on_verbs_that_lack_them_are_unknown(verb: str, name: str) -> None:
    assert parse([verb, name, "cpu"]).unknown == name


@pytest.mark.parametrize(
    ("words", "backend"),
    [
        (["sync"], None),
        (["sync", "--auto"], "auto"),
        (["sync", "--auto", "--auto"], "auto"),
        (["sync", "--torch-backend", "auto", "--auto"], "auto"),
        (["sync", "--torch-backend", "cu126"], "cu126"),
        (["sync", "--torch-backend=cu999"], "cu999"),
        (["sync", "--torch-backend=rocm7.14"], "rocm7.14"),
        (["sync", "--torch-backend=nightly/cu130"], "nightly/cu130"),
        (["add", "--torch-backend", "cpu", "--torch-backend", "cpu"], "cpu"),
    ],
    ids=str,
)
def test_the_backend_that_is_asked_for(words: list[str], backend: str | None) -> None:
    assert argv.torch_backend(parse(words)) == backend


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sync", "--torch-backend"], "--torch-backend needs a backend"),
        (["sync", "--torch-backend="], "--torch-backend needs a backend"),
        (["sync", "--torch-backend", "cuda"], "--torch-backend: `cuda` is not a backend"),
        (["sync", "--torch-backend", "12.6"], "--torch-backend: `12.6` is not a backend"),
        (["sync", "--torch-backend", "cu12.6"], "--torch-backend: `cu12.6` is not a backend"),
        (["sync", "--torch-backend", "CU126 "], "--torch-backend: `CU126 ` is not a backend"),
        (["sync", "--torch-backend", "../cpu"], "--torch-backend: `../cpu` is not a backend"),
        (["sync", "--torch-backend", "--locked"], "--torch-backend: `--locked` is not a backend"),
        (
            ["sync", "--torch-backend", "cpu", "--torch-backend", "cu126"],
            "the options ask for two backends: cpu and cu126",
        ),
        (["sync", "--auto", "--torch-backend", "cu126"], "the options ask for two backends: auto and cu126"),
        (["sync", "--auto=no"], "--auto takes no value, and got `no`"),
    ],
    ids=str,
)
def test_what_is_no_backend_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        argv.torch_backend(parse(words))
    assert str(refusal.value) == message
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        *(
            ("CU126", "cu126"),
            ("cu12.6", "cu126"),
            ("cuda-12.6", "cu126"),
            ("CUDA 12.6.3", "cu126"),
            ("cuda130", "cu130"),
        ),
        *(("rocm64", "rocm6.4"), ("ROCm-6.4", "rocm6.4"), ("Nightly/CU130", "nightly/cu130"), ("CPU", "cpu")),
        *(("cuda", "such as `cu126`; `uvtorch torch list`"), ("ROCm", "such as `rocm6.4`; `uvtorch torch list`")),
        *(("gpu", "a backend is auto, cpu"), ("12.6", "a backend is auto, cpu"), ("cu", "a backend is auto, cpu")),
    ],
)
def test_what_was_probably_meant_is_named(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        argv.backend_name(text, "--torch-backend")
    (told,) = refusal.value.hints
    assert told == f"did you mean `{hint}`?" or (hint in told and " " in hint)
    if told.startswith("did"):
        assert argv.backend_name(hint, "--torch-backend") == hint


@pytest.mark.parametrize("text", ["1", "true", "T", "yes", "on", "y"])
def test_a_boolean_variable_is_set(text: str) -> None:
    assert argv.is_set({"UV_LOCKED": text}, "UV_LOCKED")


@pytest.mark.parametrize("text", ["", "0", "false", "F", "no", "N", "off"])
def test_a_boolean_variable_is_not_set(text: str) -> None:
    assert not argv.is_set({"UV_LOCKED": text}, "UV_LOCKED")
    assert not argv.is_set({}, "UV_LOCKED")


def test_options_put_after_the_verb_are_options_whatever_follows() -> None:
    line = parse(["--project", "add", "run", "--auto", "--", "x"])
    assert line.with_options("--extra", "cpu") == ["--project", "add", "run", "--extra", "cpu", "--", "x"]


NAMES = sorted(set().union(*tables("add")))
WORDS = st.one_of(
    st.sampled_from(["--", "-", "", "torch", "-qv", "-p3.12", "-q=v", *VERBS, *NAMES]),
    st.sampled_from([f"{name}=v" for name in NAMES]),
    st.text(max_size=8),
)
OURS = ("--auto", "--torch-backend", "--dry-run")


@given(st.lists(WORDS.filter(lambda word: not word.startswith(OURS)), max_size=12))
def test_what_has_none_of_our_options_stays_as_it_is(words: list[str]) -> None:
    line = parse(words)
    assert line.argv == words
    assert line.ours == []
    assert [line.argv[at] for at in line.positionals_at] == line.positionals
    assert line.verb is None or line.argv[line.verb_at] == line.verb


@given(st.lists(st.one_of(WORDS, st.sampled_from([*OURS, "--torch-backend=cpu"])), max_size=12))
def test_what_is_taken_out_is_ours_and_nothing_else_moves(words: list[str]) -> None:
    line = parse(words)
    left = iter(words)
    assert all(word in left for word in line.argv), "in the same order"
    again = parse(line.argv)
    assert (again.ours, again.argv) == ([], line.argv)
    assert (again.verb, again.options, again.positionals) == (line.verb, line.options, line.positionals)


def test_global_options_stand_anywhere_beside_our_own_verbs() -> None:
    line = parse(["-v", "torch", "use", "cu130", "-q", "--project", "x", "--dry-run", "-h"])
    assert line.positionals == ["use", "cu130", "--dry-run", "-h"]
    assert line.has("--quiet", "--verbose")
    assert line.value("--project") == "x"
    assert line.unknown is None
    assert parse(["torch", "explain", "--", "-q"]).positionals == ["explain", "--", "-q"]
    assert parse(["torch", "detect", "--hardware", "-", "--json"]).positionals == [
        "detect",
        "--hardware",
        "-",
        "--json",
    ]


@pytest.mark.parametrize("words", [["--torch-backend", "foo"], ["--torch-backend"], ["--auto", "--torch-backend=cpu"]])
def test_a_mistake_in_our_options_is_an_error(words: list[str]) -> None:
    with pytest.raises(UsageError):
        argv.torch_backend(parse(["sync", *words]))


@pytest.mark.parametrize(
    ("typed", "verb", "again", "words"),
    [
        ("sync --auto --pre --index https://example.com/ -U", "lock", True, "--pre --index https://example.com/"),
        ("add --upgrade --locked --no-build --no-editable torch", "lock", True, "--no-build"),
        ("add --upgrade --locked --no-build --no-editable torch", "lock", False, "--upgrade --locked --no-build"),
        (
            "add -q --upgrade-package x --link-mode copy --reinstall torch",
            "sync",
            True,
            "--quiet --link-mode copy --reinstall",
        ),
        ("--offline run --pre --auto train.py --pre", "", True, "--offline"),
        ("add --pre --prerelease allow torch", "pip compile", True, "--prerelease allow"),
    ],
)
def test_what_follows_from_a_command_gets_the_options_that_mean_the_same(
    typed: str, verb: str, again: bool, words: str
) -> None:
    assert argv.forwarded(argv.parse(typed.split()), verb, again=again) == tuple(words.split())
