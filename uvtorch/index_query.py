"""Questions to indexes about what the catalog does not know, through uv: it has the client, the cache, the settings."""

import re
from collections.abc import Sequence

from uvtorch import uv
from uvtorch.backend import Backend
from uvtorch.catalog import Catalog
from uvtorch.choose import Decision, Request, after_asking
from uvtorch.errors import NoBuild, UsageError
from uvtorch.machine import Machine
from uvtorch.packages import roles

_PLATFORMS = {
    "linux_x86_64": "x86_64-manylinux_2_28",
    "linux_aarch64": "aarch64-manylinux_2_28",
    "windows_amd64": "x86_64-pc-windows-msvc",
    "windows_arm64": "aarch64-pc-windows-msvc",
    "macos_arm64": "aarch64-apple-darwin",
    "macos_x86_64": "x86_64-apple-darwin",
}


def settle(
    decision: Decision, machine: Machine, request: Request, catalog: Catalog, base: str, uv_path: str
) -> Decision:
    """Ask the indexes of `decision.ask`, in order, until one has what the request admits.

    Raises NoBuild where none has it, and where one cannot be asked: a network failure is not a no.
    """
    found = None
    for backend in decision.ask:
        versions = _resolved(uv_path, backend.index_url(base), request, machine.platform.key, "--no-deps")
        if versions is not None:
            found = backend
            decision = decision._replace(torch=versions.get("torch", "").partition("+")[0] or None)
            break
    decision = after_asking(decision, found, request, catalog)
    if decision.refusal:
        raise NoBuild(decision.refusal, *decision.hints)
    return decision


def nightly_companions(backend: Backend, request: Request, base: str, uv_path: str) -> tuple[str, ...]:
    """The Tritons that torch on a nightly or test index takes from there, whatever they are called by now.

    Raises NoBuild where the index cannot be asked or has no torch for Linux.
    """
    url, torch = backend.index_url(base), Request(("torch",), request.python)
    versions = _resolved(uv_path, url, torch, "linux_x86_64", "--prerelease", "allow")
    if versions is None:
        raise NoBuild(f"{url} has no torch", "name another backend or channel")
    return tuple(name for name, version in versions.items() if roles().get(name) == "companion" and "+" in version)


def check_mirror(uv_path: str, url: str, python: str | None) -> None:
    """Raise UsageError, with the reason, where what is at `url` is no index that has torch for Linux."""

    def ask(*options: str) -> tuple[int, dict[str, str], str]:
        return compiled(uv_path, ("--no-config", "--no-deps", *options), Request(("torch",), python), "linux_x86_64")

    code, _, err = ask("--default-index", url)
    if code == 1 and ask("--no-index", "--find-links", f"{url}/")[0] == 0:
        raise UsageError(
            f"{url} is a flat page of links, not an index: it has no page for each package, such as {url}/torch/",
            "name a mirror that has the pages; this one serves `uv pip install --find-links` alone",
        )
    if code:
        silent = code == 1 and "hint: An index" not in err
        why = ": its page for torch lists no wheel for Linux" if silent else reason(err)
        raise UsageError(f"{url} is no index that has torch{why}", f"{url}/torch/ is the page that uv looks for")


def _resolved(uv_path: str, url: str, request: Request, platform: str, *options: str) -> dict[str, str] | None:
    """What the index at `url` has for a request: name -> version; None: nothing."""
    code, versions, err = compiled(uv_path, ("--no-config", "--default-index", url, *options), request, platform)
    if code > 1:
        raise NoBuild(
            f"the catalog does not know this release, and {url} could not be asked{reason(err)}",
            "name a backend with --torch-backend, or try again when the index answers",
        )
    return versions if code == 0 else None


def compiled(
    uv_path: str, options: Sequence[str], request: Request, platform: str, *, patient: bool = True
) -> tuple[int, dict[str, str], str]:
    """What `uv pip compile` makes of a request on a platform: its exit code, the result, its messages.

    The result: name -> version, and with `--emit-index-annotation` `name from` -> the URL of its index.
    """
    command = ["pip", "compile", "-q", "--no-header", "--no-annotate", *options]
    if platform in _PLATFORMS:
        command += ["--python-platform", _PLATFORMS[platform]]
    if request.python and not request.python.endswith("t"):
        command += ["--python-version", request.python]
    code, out, err = uv.ask(uv_path, [*command, "-"], given="\n".join(request.requirements) + "\n", patient=patient)
    found: dict[str, str] = {}
    name = ""
    for row in map(str.strip, out.splitlines()):
        if row.startswith("# from "):
            found[f"{name} from"] = row.removeprefix("# from ")
        elif "==" in row:
            name, _, version = row.partition("==")
            found[name] = version.split()[0]
    return code, found, err


def reason(err: str) -> str:
    """Why uv could not ask, as it said, in brackets; empty where it gave no cause."""
    rows = [row.strip() for row in err.splitlines() if re.search("cause:|^error:|hint: An index", row)]
    return "".join(f" ({row.partition(': ')[2]})" for row in rows[-1:])
