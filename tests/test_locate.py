"""The files a command works on: held, where uv decides, against the real uv."""

import os
import subprocess
from pathlib import Path

import pytest

from uvtorch import argv, files
from uvtorch.errors import ProjectError
from uvtorch.project import workspace
from uvtorch.project.script import script_block

pytest_plugins = ["tests.index.fixtures"]


def project(path: Path, name: str, more: str = "") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1"\nrequires-python = ">=3.11"\n{more}', encoding="utf-8"
    )
    return path


def members(*patterns: str, exclude: tuple[str, ...] = ()) -> str:
    return f"[tool.uv.workspace]\nmembers = {list(patterns)!r}\nexclude = {list(exclude)!r}\n"


def site(*words: str, **env: str) -> workspace.Workspace | None:
    return workspace.site(files.project_directory(argv.parse([*words, "lock"]), env))


def layout_single(root: Path) -> Path:
    return project(root, "one")


def layout_below(root: Path) -> Path:
    project(root, "one")
    (root / "src" / "deep").mkdir(parents=True)
    return root / "src" / "deep"


def layout_directory_in_its_place(root: Path) -> Path:
    project(root, "one")
    (root / "sub" / "pyproject.toml").mkdir(parents=True)
    return root / "sub"


def layout_member(root: Path) -> Path:
    project(root, "root", members("packages/*"))
    return project(root / "packages" / "a", "a")


def layout_member_of_virtual_root(root: Path) -> Path:
    member = project(root / "a" / "b", "b")
    (root / "pyproject.toml").write_text(members("a/b"))
    return member


def layout_not_a_member(root: Path) -> Path:
    project(root, "root", members("packages/*"))
    project(root / "packages" / "a", "a")
    return project(root / "elsewhere", "b")


def layout_excluded(root: Path) -> Path:
    project(root, "root", members("packages/*", exclude=("packages/b",)))
    project(root / "packages" / "a", "a")
    return project(root / "packages" / "b", "b")


def layout_recursive(root: Path) -> Path:
    project(root, "root", members("packages/**/a"))
    return project(root / "packages" / "deep" / "a", "a")


def layout_hidden_member(root: Path) -> Path:
    project(root, "root", members("*"))
    return project(root / ".hidden", "a")


def layout_project_between(root: Path) -> Path:
    project(root, "root", members("a/b"))
    project(root / "a", "a")
    return project(root / "a" / "b", "b")


def layout_file_between(root: Path) -> Path:
    project(root, "root", members("a/b"))
    member = project(root / "a" / "b", "b")
    (root / "a" / "pyproject.toml").write_text("[tool.x]\ny = 1\n")
    return member


def layout_workspace_in_a_workspace(root: Path) -> Path:
    project(root, "root", members("inner"))
    return project(root / "inner", "inner", members())


def layout_odd_characters(root: Path) -> Path:
    odd = root / "[a] *b"
    project(odd, "root", members("packages/*"))
    return project(odd / "packages" / "c", "c")


def layout_project_above(root: Path) -> Path:
    project(root, "root")
    return project(root / "a", "a")


LAYOUTS = {name.removeprefix("layout_"): make for name, make in sorted(vars().items()) if name.startswith("layout_")}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_lock_is_where_uv_puts_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_uv: str) -> None:
    directory = LAYOUTS[name](tmp_path / "root")
    monkeypatch.chdir(directory)
    found = site()
    assert found is not None
    assert not os.path.exists(found.lock)
    subprocess.run([real_uv, "lock", "--offline", "-q"], cwd=directory, check=True)
    assert [str(path) for path in tmp_path.rglob("uv.lock")] == [found.lock]


def test_where_uv_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = project(tmp_path / "one", "one"), project(tmp_path / "two", "two")
    below = tmp_path / "two" / "below"
    below.mkdir()
    link = tmp_path / "link"
    link.symlink_to(below)
    monkeypatch.chdir(one)

    def name(*words: str, **env: str) -> str:
        found = site(*words, **env)
        assert found is not None
        return os.path.basename(found.manifest.directory)

    assert name() == "one"
    assert name("--project", "../two") == "two"
    assert name("--project", "../two/pyproject.toml") == "two"
    assert name("--directory", "../two") == "two"
    assert name("--directory", "..", "--project", "two") == "two"
    assert name("--directory", "../link") == "two", "uv changes to it, and sees its real parents"
    assert name(UV_PROJECT="../two") == "two"
    assert name(UV_WORKING_DIR="../two") == "two"
    assert name("--project", ".", UV_PROJECT="../two") == "one"
    assert name("--directory", ".", UV_WORKING_DIR="../two") == "one"
    assert name(UV_WORKING_DIR="..", UV_PROJECT="two") == "two"
    assert name("--project", str(two)) == "two"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--directory", "nowhere"], "there is no directory nowhere to work in"),
        (["--project", "nowhere"], "the project directory nowhere does not exist"),
        (["--project", "file"], "the project directory file does not exist"),
    ],
)
def test_places_that_are_not_there(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent's project is not meant, and uv refuses as well."""
    monkeypatch.chdir(project(tmp_path, "one"))
    (tmp_path / "file").touch()
    with pytest.raises(ProjectError) as refusal:
        site(*words)
    assert str(refusal.value) == message


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ProjectError, match="the current directory does not exist any more"):
        site()
    monkeypatch.chdir(tmp_path)


def test_no_project_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert site() is None


def test_package_names_a_member_however_it_is_written(tmp_path: Path) -> None:
    project(tmp_path, "root", members("packages/*", "packages/a", "packages/notes"))
    a = project(tmp_path / "packages" / "a", "My.Package")
    project(tmp_path / "packages" / "b", "b")
    (tmp_path / "packages" / "notes").mkdir()
    for name in ("my-package", "My_Package", "my.package"):
        found = workspace.site(str(tmp_path), name)
        assert found is not None
        assert (found.manifest.directory, found.root.directory) == (str(a), str(tmp_path))
        assert found.lock == str(tmp_path / "uv.lock")
        assert [os.path.basename(one.directory) for one in found.members()] == ["b"]
    root = workspace.site(str(a), "root")
    assert root is not None
    assert root.manifest.directory == str(tmp_path)
    with pytest.raises(ProjectError, match=f"the workspace at {tmp_path} has no package `c`"):
        workspace.site(str(tmp_path), "c")


@pytest.mark.parametrize(
    "table", ["members = 1", "members = [1, {}]", "exclude = 'x'", "", "members = ['packages/*']\nexclude = [3]"]
)
def test_a_workspace_that_is_written_wrongly_is_uvs_to_complain_about(table: str, tmp_path: Path) -> None:
    project(tmp_path, "root", f"[tool.uv.workspace]\n{table}\n")
    found = workspace.site(str(project(tmp_path / "packages" / "a", "a")))
    assert found is not None


@pytest.mark.parametrize("text", ["tool = 1\n", "[tool]\nuv = 1\n", "[tool.uv]\nworkspace = 1\n", "project = 1\n", ""])
def test_tables_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    found = workspace.site(str(tmp_path))
    assert found is not None
    assert found.root is found.manifest
    with pytest.raises(ProjectError, match="has no package"):
        workspace.site(str(tmp_path), "x")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"not TOML", "is not TOML: Expected '='"),
        (b"[project\n", "is not TOML: "),
        (b"a = 1\na = 2\n", "is not TOML: "),
        (b"a = " + b"9" * 5000, "is not TOML: Exceeds the limit"),
        (b"a = " + b"[" * 100_000, "is not TOML: it is nested too deeply"),
        (b"a = 1\nb = '\xff'\n", "is not UTF-8: byte 0xff in line 2"),
        (b"\xef\xbb\xbfa = 1\nb = '\xff'\n", "is not UTF-8: byte 0xff in line 2"),
        ("a = 1\n".encode("utf-16"), "is not UTF-8: byte 0xff in line 1"),
        (b"a = '\xe2\x82", "is not UTF-8: byte 0xe2 in line 1"),
        (b"a = 1\x00", "is not TOML: "),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_toml_is_told(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(raw)
    with pytest.raises(ProjectError) as refusal:
        workspace.read(str(path))
    assert str(refusal.value).startswith(f"{path} {message}")
    script = tmp_path / "script.py"
    script.write_bytes(raw)
    if b"UTF-8" in message.encode():
        with pytest.raises(ProjectError, match="is not UTF-8"):
            workspace.read(str(script), script=True)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    assert workspace.read(str(path)) == (str(path), b"\xef\xbb\xbfa = 1\r\n", {"a": 1}, False)


@pytest.mark.parametrize("name", ["missing.py", "."])
def test_a_script_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="cannot read"):
        workspace.read(str(tmp_path / name), script=True)


def test_a_script_is_a_project_of_its_own(tmp_path: Path) -> None:
    project(tmp_path, "around")
    path = tmp_path / "script.py"
    path.write_bytes(b"#!/usr/bin/env python\r\n# /// script\r\n# dependencies = ['torch']\r\n# ///\r\nprint()\r\n")
    manifest = workspace.read(str(path), script=True)
    found = workspace.Workspace(manifest, manifest)
    assert manifest.data == {"dependencies": ["torch"]}
    assert manifest.script
    assert found.lock == f"{path}.lock"
    path.write_text("# /// script\n# dependencies = [\n# ///\n")
    with pytest.raises(ProjectError, match="its inline metadata is not TOML"):
        workspace.read(str(path), script=True)


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("", None),
        ("# /// script\n# ///\n", ""),
        ("# /// script\n# a = 1\n# ///", "a = 1\n"),
        ("# /// script\n# a = 1\n#\n# b = 2\n# ///\n", "a = 1\n\nb = 2\n"),
        ("# /// script\n#  a = 1\n# ///\n", " a = 1\n"),
        ("# /// script\n# a = 1\n", None),
        ("# /// script\n# a = 1\n\n# ///\n", None),
        ("# /// script\n#a = 1\n# ///\n", None),
        ("# /// script\nx\n# /// script\n# a = 1\n# ///\n", "a = 1\n"),
        ("x = 1\n# /// script\n# a = '''\n# ///\n# '''\n# ///\n# more\n", "a = '''\n///\n'''\n"),
        ("# /// other\n# a = 1\n# ///\n", None),
        (" # /// script\n# a = 1\n# ///\n", None),
        ("# /// script \n# a = 1\n# ///\n", None),
        ("# /// script\n# a = '\u2028'\n# ///\n", "a = '\u2028'\n"),
    ],
)
def test_a_scripts_block_is_what_pep_723_says(text: str, block: str | None) -> None:
    assert script_block(text) == block
    assert script_block(text.replace("\n", "\r\n")) == block
