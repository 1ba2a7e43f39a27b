"""A plan is done whole or not at all: edits, uv, undo; and it can be shown."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plans import Edit, Plan, apply, hand_over, show
from tests.recording_uv import RecordingUv
from uvtorch import files, uv
from uvtorch.errors import ProjectError, UvNotFound, UvTooOld

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs of POSIX")

BEFORE = b"\xef\xbb\xbf[project]\r\nname = 'demo' # mine"
AFTER = BEFORE + b"\r\n[tool.x]\r\n"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "project"
    path.mkdir()
    monkeypatch.chdir(path)
    yield path
    assert not [*path.glob(".uvtorch*")], "a temporary file is left"


@pytest.fixture
def toml(directory: Path) -> Path:
    path = directory / "pyproject.toml"
    path.write_bytes(BEFORE)
    return path


def fake_uv(directory: Path, body: str = "exit 0", version: str = "0.13.8") -> RecordingUv:
    return RecordingUv(directory.parent / "bin" / "uv", body, version)


def pinning(toml: Path, *commands: tuple[str, ...], **more: object) -> Plan:
    guarded = (str(toml), str(toml.with_name("uv.lock")))
    return Plan(commands or (("lock",),), (Edit(str(toml), BEFORE, AFTER),), guarded, **more)  # type: ignore[arg-type]


def test_edits_are_written_then_uv_runs(toml: Path, directory: Path) -> None:
    fake = fake_uv(directory, 'cp pyproject.toml "seen-$1"; echo lock >uv.lock')
    assert apply(pinning(toml, ("lock", "-q"), ("sync",)), str(fake.path)) == 0
    assert fake.commands == [["lock", "-q"], ["sync"]]
    assert toml.read_bytes() == AFTER
    assert (directory / "seen-lock").read_bytes() == (directory / "seen-sync").read_bytes() == AFTER
    assert (directory / "uv.lock").read_bytes() == b"lock\n"


@pytest.mark.parametrize("code", [1, 2, 77])
@pytest.mark.parametrize("lock", [None, b"version = 1\r\n\xff"])
def test_a_failure_undoes_all_to_the_byte(code: int, lock: bytes | None, toml: Path, directory: Path) -> None:
    if lock is not None:
        (directory / "uv.lock").write_bytes(lock)
    fake = fake_uv(directory, f'[ "$1" = sync ] && exit {code}; echo lock >>pyproject.toml; echo x >uv.lock')
    assert apply(pinning(toml, ("lock",), ("sync",), ("never",)), str(fake.path)) == code
    assert fake.commands == [["lock"], ["sync"]]
    assert toml.read_bytes() == BEFORE
    assert ((directory / "uv.lock").read_bytes() if lock is not None else None) == lock
    assert (directory / "uv.lock").exists() == (lock is not None)


def test_what_uv_wrote_is_put_back_with_its_mode(toml: Path, directory: Path) -> None:
    toml.chmod(0o640)
    lock = directory / "uv.lock"
    lock.write_bytes(b"lock")
    lock.chmod(0o604)
    fake = fake_uv(
        directory, "(cat pyproject.toml; echo lock) >new; mv new pyproject.toml; echo >new; mv new uv.lock; kill -9 $$"
    )
    assert apply(pinning(toml), str(fake.path)) == 137
    assert (toml.read_bytes(), stat.S_IMODE(toml.stat().st_mode)) == (BEFORE, 0o640)
    assert (lock.read_bytes(), stat.S_IMODE(lock.stat().st_mode)) == (b"lock", 0o604)


def test_what_uv_left_alone_is_not_touched(toml: Path, directory: Path) -> None:
    lock = directory / "uv.lock"
    lock.write_bytes(b"lock")
    before = lock.stat()
    assert apply(pinning(toml), str(fake_uv(directory, "exit 1").path)) == 1
    assert (lock.stat().st_ino, lock.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_uv_that_cannot_be_started_undoes_the_edit(toml: Path, directory: Path) -> None:
    broken = directory.parent / "uv"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && rm $0")
    broken.chmod(0o755)
    with pytest.raises(UvNotFound):
        apply(pinning(toml), str(broken))
    assert toml.read_bytes() == BEFORE


def test_an_old_uv_is_refused_before_the_edit(toml: Path, directory: Path) -> None:
    fake = fake_uv(directory, version="0.4.20")
    inode = toml.stat().st_ino
    with pytest.raises(UvTooOld):
        apply(pinning(toml), str(fake.path))
    assert toml.stat().st_ino == inode
    assert apply(Plan((("lock",),)), str(fake.path)) == 0, "without an edit its age does not matter"


@pytest.mark.parametrize(("command", "code"), [("lock", 3), ("follow", 4), ("closing", 5), (None, 0)])
def test_a_follow_up_is_compiled_after_uv_and_undone_with_it(
    command: str | None, code: int, toml: Path, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = directory / "other.toml"
    other.write_bytes(b"other")
    fake = fake_uv(directory, f'echo "$1" >>uv.lock; [ "$1" = "{command}" ] && exit {code}; exit 0')

    def follow() -> Plan:
        assert (directory / "uv.lock").read_bytes() == b"lock\n"
        edits = (Edit(str(toml), AFTER, AFTER + b"2"), Edit(str(other), b"other", b"changed"))
        return Plan((("follow",),), edits, decisions=("bounds",))

    assert apply(pinning(toml, then=follow, closing=(("closing",),)), str(fake.path)) == code
    order = ["lock", "follow", "closing"]
    assert fake.commands == [[name] for name in order[: order.index(command or "closing") + 1]]
    if code:
        assert (toml.read_bytes(), other.read_bytes()) == (BEFORE, b"other")
        assert not (directory / "uv.lock").exists()
    else:
        assert (toml.read_bytes(), other.read_bytes()) == (AFTER + b"2", b"changed")
    assert capsys.readouterr().err == ("uvtorch: bounds\n" if command != "lock" else "")


@pytest.mark.parametrize("error", [ProjectError("no"), RuntimeError("a fault of ours"), KeyboardInterrupt()])
def test_a_follow_up_that_raises_undoes_all(error: BaseException, toml: Path, directory: Path) -> None:
    def follow() -> Plan:
        raise error

    fake = fake_uv(directory, "echo x >uv.lock")
    with pytest.raises(type(error)):
        apply(pinning(toml, then=follow), str(fake.path))
    assert toml.read_bytes() == BEFORE
    assert not (directory / "uv.lock").exists()


IN_CHILD = "import sys; from tests import plans; sys.exit(plans.apply(eval(sys.argv[1], vars(plans)), sys.argv[2]))"
ROOT = Path(__file__).parents[1]


def become(made: Plan, fake: RecordingUv, directory: Path) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-c", IN_CHILD, repr(made), str(fake.path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=False, timeout=30)


def test_the_last_command_is_not_undone(toml: Path, directory: Path) -> None:
    """`uv run`: that the program fails is no reason to undo what was locked."""
    fake = fake_uv(directory, '[ "$1" = run ] && exit 9; exit 0')
    done = become(pinning(toml, last=("run", "x")), fake, directory)
    assert (done.returncode, done.stderr) == (9, b"")
    assert toml.read_bytes() == AFTER
    assert fake.commands == [["lock"], ["run", "x"]]


def test_the_last_command_does_not_run_after_a_failure(toml: Path, directory: Path) -> None:
    fake = fake_uv(directory, "exit 3")
    assert become(pinning(toml, last=("run", "x")), fake, directory).returncode == 3
    assert toml.read_bytes() == BEFORE
    assert fake.commands == [["lock"]]


def test_an_edit_before_the_last_command_is_not_forgotten(toml: Path, directory: Path) -> None:
    fake = fake_uv(directory)
    made = Plan(edits=(Edit(str(toml), BEFORE, AFTER),), last=("run",))
    assert become(made, fake, directory).returncode == 0
    assert toml.read_bytes() == AFTER


def test_nothing_to_do_but_to_hand_over(directory: Path) -> None:
    fake = fake_uv(directory, "exit 6")
    assert become(hand_over(["sync", "-q"]), fake, directory).returncode == 6
    assert fake.commands == [["sync", "-q"]]


def test_a_file_that_changed_meanwhile_is_left_as_it_is(toml: Path, directory: Path) -> None:
    toml.write_bytes(BEFORE + b" edited")
    fake = fake_uv(directory)
    with pytest.raises(ProjectError, match="changed while uvtorch was reading it"):
        apply(pinning(toml), str(fake.path))
    assert toml.read_bytes() == BEFORE + b" edited"
    assert fake.commands == []


def test_a_file_that_went_away_meanwhile_does_not_come_back(toml: Path, directory: Path) -> None:
    toml.unlink()
    with pytest.raises(ProjectError, match="changed while"):
        apply(pinning(toml), str(fake_uv(directory).path))
    assert not toml.exists()


def test_a_read_only_file_is_refused_also_for_root(toml: Path, directory: Path) -> None:
    toml.chmod(0o444)
    fake = fake_uv(directory)
    with pytest.raises(ProjectError, match="is read-only"):
        apply(pinning(toml), str(fake.path))
    assert toml.read_bytes() == BEFORE
    assert fake.commands == []


def test_a_second_file_that_cannot_be_written_undoes_the_first(toml: Path, directory: Path) -> None:
    other = directory / "other.toml"
    other.write_bytes(b"other")
    other.chmod(0o444)
    made = Plan(edits=(Edit(str(toml), BEFORE, AFTER), Edit(str(other), b"other", b"changed")))
    with pytest.raises(ProjectError, match=r"other\.toml is read-only"):
        apply(made, str(fake_uv(directory).path))
    assert toml.read_bytes() == BEFORE


def test_a_lock_that_cannot_be_read_is_refused(toml: Path, directory: Path) -> None:
    """It could not be put back."""
    (directory / "uv.lock").mkdir()
    with pytest.raises(ProjectError, match=r"cannot read .*uv\.lock: Is a directory"):
        apply(pinning(toml), str(fake_uv(directory).path))
    assert toml.read_bytes() == BEFORE


def test_all_is_tried_before_saying_that_something_could_not_be_put_back(toml: Path, directory: Path) -> None:
    fake = fake_uv(directory, "rm pyproject.toml; mkdir pyproject.toml; echo x >uv.lock; exit 1")
    with pytest.raises(ProjectError, match=r"could not be put back|not all could be put back: .*pyproject\.toml"):
        apply(pinning(toml), str(fake.path))
    assert not (directory / "uv.lock").exists()


def test_a_written_file_keeps_mode_and_owner(toml: Path) -> None:
    toml.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(toml, 12345, 54321)
    before = toml.stat()
    files.write(str(toml), AFTER)
    after = toml.stat()
    assert toml.read_bytes() == AFTER
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_reader_sees_the_old_or_the_new(toml: Path) -> None:
    with toml.open("rb") as reader:
        files.write(str(toml), AFTER)
        assert reader.read() == BEFORE


def test_a_link_stays_a_link(directory: Path) -> None:
    real = directory.parent / "real.toml"
    real.write_bytes(BEFORE)
    link = directory / "pyproject.toml"
    link.symlink_to(real)
    assert apply(pinning(link), str(fake_uv(directory).path)) == 0
    assert link.is_symlink()
    assert real.read_bytes() == AFTER


def test_both_names_of_a_file_stay_one_file(toml: Path, directory: Path) -> None:
    other = directory / "other-name.toml"
    os.link(toml, other)
    files.write(str(toml), AFTER)
    assert other.read_bytes() == AFTER


def refuses(call: str, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(os, call)

    def refuse(path: object, *args: object, **more: object) -> object:
        if ".uvtorch" in str(path):
            raise error
        return real(path, *args, **more)

    monkeypatch.setattr(os, call, refuse)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("open", PermissionError(13, "Permission denied")),  # a directory in which nobody may make files
        ("open", FileExistsError(17, "File exists")),  # left by a uvtorch that was killed, under the same process id
        ("replace", OSError(16, "Device or resource busy")),  # a file that is a mount, as containers have them
        ("chmod", PermissionError(1, "Operation not permitted")),
    ],
)
@pytest.mark.parametrize("content", [AFTER, b"", BEFORE[:5], BEFORE * 1000])
def test_where_no_new_file_can_take_its_place_it_is_written_in_place(
    call: str, error: OSError, content: bytes, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = toml.stat().st_ino
    refuses(call, error, monkeypatch)
    files.write(str(toml), content)
    assert toml.read_bytes() == content
    assert toml.stat().st_ino == inode


def test_another_owners_file_is_written_in_place(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a shared directory: a new file would be ours."""
    refuses("chown", PermissionError(1, "Operation not permitted"), monkeypatch)
    real = os.stat

    def stat_of(path: "os.PathLike[str] | str", **more: bool) -> os.stat_result:
        result = real(path, **more)
        own = ".uvtorch" in os.fspath(path)
        return os.stat_result([*result[:4], result.st_uid + own, *result[5:10]])

    inode = toml.stat().st_ino
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", stat_of)
        files.write(str(toml), AFTER)
    assert toml.read_bytes() == AFTER
    assert toml.stat().st_ino == inode


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_leaves_the_file_as_it_is(toml: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def full(path: object, flags: int, *args: int, **more: int) -> int:
        if ".uvtorch" in str(path):
            os.close(real(path, flags, *args, **more))  # type: ignore[arg-type]
            return real("/dev/full", os.O_WRONLY)
        return real(path, flags, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(ProjectError, match=r"cannot write .*: No space left on device"):
        apply(pinning(toml), str(fake_uv(directory).path))
    assert toml.read_bytes() == BEFORE


DIFFS = [
    (b"a\nb\nc\n", b"a\nB\nc\n"),
    (b"a\r\nb\r\n", b"a\r\nb\r\nc\r\n"),
    (b"\xef\xbb\xbfa\nb", b"\xef\xbb\xbfa\nb\nc"),
    (b"a", b"a\n"),
    (b"", b"new\n"),
    (b"x = '\x0c\xe2\x80\xa8'\ny\n", b"x = '\x0c\xe2\x80\xa8'\nz\n"),
    (b"\n" * 50 + b"a\n" + b"\n" * 50, b"\n" * 50 + b"b\n" + b"\n" * 50 + b"c"),
]


@pytest.mark.parametrize(("before", "after"), DIFFS)
def test_the_diff_that_is_shown_makes_the_edit(
    before: bytes, after: bytes, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    toml = directory / "pyproject.toml"
    toml.write_bytes(before)
    show(Plan(edits=(Edit(str(toml), before, after),)))
    text = capfd.readouterr().out
    subprocess.run(["git", "apply", "-p1", "--whitespace=nowarn", "-"], input=text.encode(), check=True, cwd=directory)
    assert toml.read_bytes() == after


def test_what_is_shown(toml: Path, directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = pinning(toml, ("add", "a b", ""), decisions=("cpu: said so",), warnings=("slow",), closing=(("sync",),))
    show(made._replace(last=("run", "x;y")))
    assert capfd.readouterr().out == (
        "# cpu: said so\n"
        "# warning: slow\n"
        "--- a/pyproject.toml\n"
        "+++ b/pyproject.toml\n"
        "@@ -1,2 +1,3 @@\n"
        " \ufeff[project]\r\n"
        "-name = 'demo' # mine\n"
        "\\ No newline at end of file\n"
        "+name = 'demo' # mine\r\n"
        "+[tool.x]\r\n"
        "$ uv add 'a b' ''\n"
        "$ uv sync\n"
        "$ uv run 'x;y'\n"
    )
    assert toml.read_bytes() == BEFORE


def test_windows_quotes_its_own_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(uv, "WINDOWS", True)
    show(Plan((("add", "torch>=2", 'a "b'),)))
    assert capsys.readouterr().out == '$ uv add torch>=2 "a \\"b"\n'


def test_what_is_reported(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Plan(decisions=("one", "two"), warnings=("three",))
    fake = str(fake_uv(directory).path)
    apply(made, fake, quiet=False)
    apply(made, fake, quiet=True)
    assert capsys.readouterr() == ("", "uvtorch: one\nuvtorch: two\nwarning: three\n")
