"""Nothing is lost: commands in crowds, killed at each step, beside an editor, on a full disk, stopped and continued."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.index.project import MACHINES, Project
from tests.plans import Edit, Plan, apply
from tests.recording_uv import ActingUv, RecordingUv
from uvtorch import files
from uvtorch.errors import ProjectError
from uvtorch.journal import BESIDE, Claim, Journal, Kept, by_uv, names_in, read

pytest_plugins = ["tests.index.fixtures"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock, signals and processes of POSIX")

BEFORE = b'[project]\nname = "demo"\nversion = "1"\ndependencies = [\n    "idna",  # mine\n]\n'
PINNED = BEFORE + b'\n[tool.uv.sources]\ntorch = { index = "pytorch-cpu" }\n'
BY_UV = PINNED.replace(b"[\n", b'[\n    "torch>=2",\n', 1)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (path / "pyproject.toml").write_bytes(BEFORE)
    (path / "uv.lock").write_bytes(b"locked\n")
    (tmp_path / "by-uv").write_bytes(BY_UV)
    return path


def plan(directory: Path, *commands: tuple[str, ...]) -> Plan:
    toml = str(directory / "pyproject.toml")
    guarded = (toml, str(directory / "uv.lock"))
    return Plan(commands or (("add", "torch"),), (Edit(toml, BEFORE, PINNED),), guarded)


def fake_uv(directory: Path, body: str) -> str:
    return str(RecordingUv(directory.parent / "bin" / "uv", body).path)


WRITES = "cp ../by-uv pyproject.toml; echo half >.tmpAbC123; mv .tmpAbC123 uv.lock"


def state(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


UNTOUCHED = {"pyproject.toml": BEFORE, "uv.lock": b"locked\n"}


def repair(directory: Path) -> list[str]:
    """What the next command does first; what it says."""
    told: list[str] = []
    claim = Claim(str(directory), os.environ)
    claim.take("uvtorch add", told.append)
    claim.release()
    assert not claim.left_behind
    left = [path.name for path in (directory.parent / "state" / "uvtorch").iterdir()]
    assert [name for name in left if not name.endswith(".lock")] == []
    return told


def in_child(do: Callable[[], object], kill_at: int | None = None) -> int:
    """Do it in a process of its own, killed before the nth thing it does to a file; how that ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    events = count(1)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and next(events) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(hook)
        os._exit(bool(do()))
    finally:
        os._exit(99)


CHANGES = ("os.rename", "os.remove", "os.truncate", "os.posix_spawn", "os.chmod", "fcntl.flock")


@pytest.mark.parametrize(("code", "beside"), [(0, False), (1, True)])
def test_killed_at_each_step_the_next_command_puts_all_back(
    code: int, beside: bool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the journal in the state folder, and, on another disk, beside the project's files."""
    if beside:
        monkeypatch.setattr(Claim, "place", property(lambda claim: claim._beside if claim.held else None))
    fake = fake_uv(directory, f"{WRITES}; exit {code}")
    done, put_back = False, 0
    for at in count(1):
        for name, content in UNTOUCHED.items():
            (directory / name).write_bytes(content)
        ended = in_child(lambda: apply(plan(directory), fake), at)
        if ended != -signal.SIGKILL:
            assert ended == bool(code)
            break
        told = repair(directory)
        put_back += bool(told)
        assert len(told) <= 1
        after = state(directory)
        # Before uv: as it was. Once all is done, the last step is to forget the copies.
        done = done or after != UNTOUCHED
        if done:
            assert code == 0
            assert after == {"pyproject.toml": BY_UV, "uv.lock": b"half\n"}
    assert at > 20
    assert put_back > 3
    assert done == (code == 0)


def test_uv_that_finds_the_disk_full_leaves_an_empty_file(directory: Path) -> None:
    assert apply(plan(directory), fake_uv(directory, ": >pyproject.toml; exit 2")) == 2
    assert state(directory) == UNTOUCHED


@pytest.mark.parametrize("torn", [b"", BY_UV[:40], BY_UV[:60]])
def test_killed_with_uv_that_was_writing(torn: bytes, directory: Path) -> None:
    """uv writes pyproject.toml in place."""
    (directory.parent / "torn").write_bytes(torn)
    fake = fake_uv(directory, f"{WRITES}; echo >.tmpZ09abc; cp ../torn pyproject.toml; kill -9 $PPID $$")
    assert in_child(lambda: apply(plan(directory), fake)) == -signal.SIGKILL
    (told,) = (row for row in repair(directory) if not row.startswith("waiting for "))  # uv may take longer to die
    assert state(directory) == UNTOUCHED
    assert re.fullmatch(r"put back pyproject\.toml and uv\.lock: `a test` \(process \d+\) was killed", told)


def test_a_temporary_file_of_somebody_else_s_stays(directory: Path) -> None:
    """It was there before the command that was killed."""
    theirs = directory / ".tmpOther1"
    theirs.write_text("half written")
    os.utime(theirs, ns=(0, theirs.stat().st_mtime_ns - 10**9))
    fake = fake_uv(directory, "echo >.tmpZ09abc; kill -9 $PPID $$")
    assert in_child(lambda: apply(plan(directory), fake)) == -signal.SIGKILL
    repair(directory)
    assert theirs.read_text() == "half written"
    assert not (directory / ".tmpZ09abc").exists()


def test_uv_goes_on_after_uvtorch_was_killed(directory: Path) -> None:
    """The next command waits for uv, then repairs."""
    fake = fake_uv(directory, f"kill -9 $PPID; sleep 0.3; {WRITES}; touch ../uv-ended")
    assert in_child(lambda: apply(plan(directory), fake)) == -signal.SIGKILL
    told = repair(directory)
    assert (directory.parent / "uv-ended").exists()
    assert state(directory) == UNTOUCHED
    assert [text.split(",")[0].split(":")[0] for text in told] == [
        told[0].split(",")[0],
        "put back pyproject.toml and uv.lock",
    ]
    assert told[0].startswith("waiting for `a test` (process ")


def test_what_uv_left_running_does_not_keep_others_away(directory: Path) -> None:
    """A compiler's cache server, started by a build: it has inherited the lock."""
    fake = fake_uv(directory, "sleep 60 >/dev/null 2>&1 & echo $! >../server")
    assert apply(plan(directory), fake) == 0
    try:
        assert repair(directory) == []
    finally:
        os.kill(int((directory.parent / "server").read_text()), signal.SIGKILL)


def test_who_waits_can_be_interrupted(directory: Path) -> None:
    holder = Claim(str(directory), os.environ)
    holder.take("uvtorch lock", print)
    told: list[str] = []
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            Claim(str(directory), os.environ).take("uvtorch add", told.append)
    finally:
        signal.signal(signal.SIGALRM, previous)
        holder.release()
    assert told == [f"waiting for `uvtorch lock` (process {os.getpid()}), which changes {directory}"]


def test_a_record_that_somebody_forged_or_cut_short(directory: Path) -> None:
    """In a repository that was cloned: nothing outside of it is written, nothing is followed, nothing hangs."""
    victim = directory.parent / "victim"
    record = directory / ".uvtorch-journal"
    row = " ".join(part.hex() or "" for part in (os.fsencode(victim), b"old", b"", b""))
    for text in (f"\n{row}\nend", f"\n{row}", "", "\n\n\nend", "\nzz 1 2 3\nend", "\n00 6f 6f 6f\nend"):
        record.write_text(text)
        (directory / ".uvtorch-journal.0").write_bytes(b"mine now")
        repair(directory)
        assert not victim.exists()
        assert state(directory) == UNTOUCHED
    victim.write_bytes(b"a secret")
    row = " ".join(part.hex() for part in (os.fsencode(directory / "pyproject.toml"), b"old", BEFORE, BEFORE))
    record.write_text(f"\n{row}\nend")
    (directory / ".uvtorch-journal.0").symlink_to(victim)
    repair(directory)
    assert state(directory) == UNTOUCHED
    victim.unlink()
    record.symlink_to(victim)
    repair(directory)
    os.mkfifo(record)
    repair(directory)
    assert state(directory) == UNTOUCHED


# An editor


@pytest.mark.parametrize("ending", ["exit 1", "kill -9 $$"])
@pytest.mark.parametrize(
    ("way", "theirs"),
    {
        "echo '# theirs' >>pyproject.toml": BY_UV + b"# theirs\n",
        "echo '# theirs' >>new; mv new pyproject.toml": b"# theirs\n",
        "sed -i s/mine/theirs/ pyproject.toml": BY_UV.replace(b"mine", b"theirs"),
        "rm pyproject.toml": None,
    }.items(),
)
def test_what_an_editor_wrote_stays(
    way: str, theirs: bytes | None, ending: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = fake_uv(directory, f"{WRITES}; {way}; {ending}")
    assert apply(plan(directory), fake, quiet=False) in (1, 137)
    after = state(directory)
    assert after.pop("pyproject.toml", None) == theirs
    assert after == {"uv.lock": b"locked\n", f"pyproject.toml{BESIDE}": BEFORE}
    what = "deleted" if theirs is None else "changed"
    assert capsys.readouterr().err == (
        f"warning: pyproject.toml was {what} by another program meanwhile and stays so; "
        f"as it was before, it is pyproject.toml{BESIDE}\n"
    )


def test_what_an_editor_wrote_stays_where_uv_writes_over_it(directory: Path) -> None:
    """Where uv fails, it puts back what it read before: https://github.com/astral-sh/uv calls it a revert."""
    fake = fake_uv(
        directory,
        f"cp pyproject.toml ../read; {WRITES}; echo '# theirs' >>pyproject.toml; sleep 0.4; "
        "cp ../read pyproject.toml; exit 1",
    )
    assert apply(plan(directory), fake) == 1
    assert state(directory)["pyproject.toml"] == BY_UV + b"# theirs\n"


def test_what_was_saved_once_more_is_not_written_over(directory: Path) -> None:
    """Between the last look and the end: what was seen before is put back over uv's own text only."""
    toml = directory / "pyproject.toml"
    kept = Kept(str(toml), read(str(toml)))
    for content in (BEFORE + b"# theirs\n", BEFORE):  # what uv had read before, put back by it
        toml.write_bytes(content)
        kept.settle((), torn=False)
    toml.write_bytes(BEFORE + b"# theirs, and more\n")
    assert "was changed by another program" in str(kept.put_back())
    assert toml.read_bytes() == BEFORE + b"# theirs, and more\n"


def test_what_uv_has_half_written_is_not_taken_for_somebody_elses(directory: Path) -> None:
    toml = directory / "pyproject.toml"
    toml.write_bytes(PINNED)
    kept = Kept(str(toml), read(str(toml)))
    for content, looks in ((b"[pro", 1), (BY_UV, 3)):
        toml.write_bytes(content)
        for _ in range(looks):
            kept.look({"torch"})
    assert not kept.foreign
    toml.write_bytes(b"[pro")
    for _ in range(2):
        kept.look({"torch"})
    assert kept.foreign


def test_an_editor_that_saved_before_the_repair(directory: Path) -> None:
    fake = fake_uv(directory, f"{WRITES}; kill -9 $PPID $$")
    assert in_child(lambda: apply(plan(directory), fake)) == -signal.SIGKILL
    (directory / "pyproject.toml").write_bytes(BEFORE.replace(b"demo", b"theirs"))
    told = [row for row in repair(directory) if not row.startswith("waiting for ")]
    assert len(told) == 2
    assert state(directory) == {
        "pyproject.toml": BEFORE.replace(b"demo", b"theirs"),
        "uv.lock": b"locked\n",
        f"pyproject.toml{BESIDE}": BEFORE,
    }


ARRAY = b'[project]\ndependencies = ["a>=1", "b"] # mine\n'


@pytest.mark.parametrize(
    ("after", "is_uvs"),
    [
        (ARRAY, True),
        (b'[project]\r\ndependencies = [\r\n  "a>=1",\r\n  "b",\r\n  "new_one>=2",\r\n] # mine\r\n', True),
        (ARRAY.replace(b'"b"', b'"b", "New.One[x]>=2 ; python_version > \'3\'"'), True),
        (ARRAY + b'[dependency-groups]\ndev = ["new-one"]\n[tool.uv.sources]\nnew-one = { git = "x" }\n', False),
        (ARRAY.replace(b"mine", b"theirs"), False),
        (ARRAY.replace(b'"b"', b'"c"'), False),
        (ARRAY.replace(b', "b"', b""), False),
        (ARRAY + b"[tool.other]\n", False),
        (ARRAY.replace(b'"b"', b'"b", "new-one"') + b'[[tool.uv.index]]\nurl = "http://127.0.0.1/simple"\n', True),
        (b"", False),
    ],
)
def test_what_is_taken_for_uvs_own(after: bytes, is_uvs: bool) -> None:
    assert by_uv(ARRAY, after, names_in(["add", "new-one>=2"])) == is_uvs


def test_an_empty_snapshot_is_never_written_back(directory: Path) -> None:
    """An editor that truncates, then writes."""
    toml = directory / "pyproject.toml"
    toml.write_bytes(b"")
    fake = fake_uv(directory, "echo lock >pyproject.toml; exit 1")
    assert apply(Plan((("lock",),), guarded=(str(toml),)), fake) == 1
    assert toml.read_bytes() == b"lock\n"


# Disks


def test_on_a_full_disk_a_rename_puts_it_back(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    fake = fake_uv(directory, f"{WRITES}; exit 1")
    real = files.write

    def then_full(path: str, content: bytes) -> None:
        real(path, content)
        monkeypatch.setattr(files, "write", full)

    monkeypatch.setattr(files, "write", then_full)
    assert apply(plan(directory), fake) == 1
    assert state(directory) == UNTOUCHED


def test_on_a_disk_that_uv_has_filled_all_comes_back(directory: Path, launcher: Path) -> None:
    """A small disk of its own, where the system lets us mount one; the state folder is on another."""
    disk = directory.parent / "disk"
    disk.mkdir()
    fake = fake_uv(directory, ": >pyproject.toml; echo half >uv.lock; cat /dev/zero >fill 2>/dev/null; exit 1")
    script = (
        f"mount -t tmpfs -o size=64k none {disk} && cp * {disk} && cd {disk} || exit 77\n"
        f"UVTORCH_UV={fake} {launcher} add idna; echo code $?; cat pyproject.toml uv.lock\n"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip("no disk can be mounted here")
    assert done.stdout == f"code 1\n{BEFORE.decode()}locked\n"


def test_where_no_copy_can_be_made_nothing_is_begun(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def full(path: str, content: bytes, like: str | None = None) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "create", full)
    fake = RecordingUv(directory.parent / "bin" / "uv")
    with pytest.raises(ProjectError, match="cannot keep copies of the project's files: No space left on device"):
        apply(plan(directory), str(fake.path))
    assert fake.commands == []
    assert state(directory) == UNTOUCHED


def test_a_user_without_a_place_for_state_is_kept_apart_all_the_same(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    first, second = Claim(str(directory), os.environ), Claim(str(directory), os.environ)
    first.take("one", print)
    second.take("two", print, wait=False)
    assert (first.held, second.held) == (True, False)
    assert first.place == str(directory / ".uvtorch-journal")
    first.release()


# The real uv


def crowd(project: Project, commands: Mapping[tuple[str, ...], Path]) -> dict[tuple[str, ...], int]:
    """Run uvtorch's commands at the same time, each in its directory; their exit codes."""
    environment = {**project.environment, "UVTORCH_HARDWARE": str(MACHINES / "cpu-only.json")}
    started = {
        words: subprocess.Popen([sys.executable, "-m", "uvtorch", *words], cwd=path, env=environment, stderr=-3)
        for words, path in commands.items()
    }
    return {words: process.wait(60) for words, process in started.items()}


def test_adds_at_the_same_time(project: Project) -> None:
    good = [("add", name) for name in ("torch", "numpy", "jinja2")]
    bad = [("add", name) for name in ("nowhere-a", "torch==9", "nowhere-b")]
    codes = crowd(project, dict.fromkeys([*good, *bad], project.path))
    assert {words for words, code in codes.items() if code == 0} == set(good)
    assert {codes[words] for words in bad} == {1}
    names = {text.partition(">")[0] for text in project.data["project"]["dependencies"]}
    assert names == {"torch", "numpy", "jinja2"}
    project.uv("lock", "--check").must()


def test_adds_in_the_members_of_a_workspace(empty: Callable[[str], Project]) -> None:
    root = empty(
        '[project]\nname = "root"\nversion = "0"\nrequires-python = ">=3.11"\n[tool.uv.workspace]\nmembers = ["*"]'
    )
    wanted = {"a": "torch", "b": "numpy", "c": "timm", "d": "jinja2"}
    for name in wanted:
        (root.path / name).mkdir()
        text = f'[project]\nname = "{name}"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = []\n'
        (root.path / name / "pyproject.toml").write_text(text)
    codes = crowd(root, {("add", package, "--no-sync"): root.path / name for name, package in wanted.items()})
    assert set(codes.values()) == {0}
    for name, package in wanted.items():
        assert f'"{package}' in (root.path / name / "pyproject.toml").read_text()
    root.uv("lock", "--check").must()
    assert {index for _, index in root.locked()["torch"]} - {"simple"} == {"whl/cpu"}
    for name in ("b", "d"):
        assert "pytorch" not in (root.path / name / "pyproject.toml").read_text()


def test_a_torn_workspace_root_is_put_back_for_a_command_in_a_member(empty: Callable[[str], Project]) -> None:
    text = '[project]\nname = "root"\nversion = "0"\nrequires-python = ">=3.11"\n[tool.uv.workspace]\nmembers = ["a"]\n'
    root = empty(text)
    (root.path / "a").mkdir()
    (root.path / "a" / "pyproject.toml").write_text('[project]\nname = "a"\nversion = "0"\n')
    claim = Claim(str(root.path), os.environ)
    claim.take("uvtorch add", print)
    journal = Journal(claim.place)

    journal.keep(str(root.file))
    journal.begin(("numpy",))
    claim.release()
    root.file.write_bytes(b"[pro")
    member = Project(root.home, root.path / "a")
    done = member.uvtorch("torch", "doctor", XDG_STATE_HOME=os.environ["XDG_STATE_HOME"])
    assert f"put back ../pyproject.toml: `uvtorch add` (process {os.getpid()}) was killed" in done.err
    assert root.file.read_text() == text


# Stopped


@pytest.fixture
def job(launcher: Path, directory: Path) -> Iterator[Callable[[ActingUv], "subprocess.Popen[bytes]"]]:
    """Starts `uvtorch lock` as a job of its own, as a shell does."""
    started: list[subprocess.Popen[bytes]] = []

    def go(fake: ActingUv) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "UVTORCH_UV": str(fake.path)}
        started.append(subprocess.Popen([launcher, "lock"], cwd=directory, env=environment, process_group=0))
        return started[0]

    yield go
    for process in started:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None


def run_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(true: Callable[[], object]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come")


def test_stopped_uv_stops_with_it(job: Callable[..., "subprocess.Popen[bytes]"], tmp_path: Path) -> None:
    fake = ActingUv(tmp_path / "uv", "say(str(os.getpid()))\nwhile not released(): time.sleep(0.01)")
    process = job(fake)
    until(lambda: fake.said)
    uv = int(fake.said[0])
    process.send_signal(signal.SIGTSTP)
    until(lambda: run_state(process.pid) == "T")
    until(lambda: run_state(uv) == "T")
    process.send_signal(signal.SIGCONT)
    until(lambda: run_state(uv) != "T")
    fake.release()
    assert process.wait(30) == 0
