"""Regenerate the catalog's tables that have a machine-readable source, and show what would change.

usage: python tools/regenerate_catalog.py --matrix matrix.json --pairs pairs.json [--write]

`matrix.json` holds torch release x backend x platform x CPython tag, `pairs.json` what each wheel of torchvision,
torchaudio, torchtext and torchcodec says about torch. Written are `uvtorch/catalog/builds.toml` and `pairs.toml`; the
other tables (kernels, drivers, wheels) are kept by hand, each row with its source. Without --write nothing is written.
The result is validated before anything is shown: exit 1 with the faults if it does not hold together.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.choose.catalog_faults import faults as catalog_faults
from uvtorch import catalog
from uvtorch.backend import parse

CATALOG = Path(__file__).resolve().parent.parent / "uvtorch" / "catalog"
PLATFORMS = ("linux_x86_64", "linux_aarch64", "windows_amd64", "windows_arm64", "macos_arm64", "macos_x86_64")
PAIRED = ("torchvision", "torchaudio", "torchtext")

# torchtext 0.18.0 says torch>=2.3.0 and fails to load from 2.4 on (pytorch/text#2272).
NARROWER = {("torchtext", "0.18.0"): "2.3.0-2.3.1"}

# The row repeats a guess about nightlies; nothing is known of these stable builds, so they stay out and are asked for.
UNSEEN = re.compile(r"nothing seen for stable")


def version(text: str) -> tuple[int, ...]:
    """`2.14.1` as numbers, to sort by."""
    return tuple(int(part) for part in text.split("."))


def rank(name: str) -> tuple[object, ...]:
    """Sort key of backends: by family, then by version as numbers."""
    backend = parse(name)
    if backend is None:
        raise SystemExit(f"{name!r} is not a backend")
    return backend.rank


def python(tag: str) -> str:
    """`cp314t` as `3.14t`."""
    return f"{tag[2]}.{tag[3:]}"


def pythons(tags: Iterable[str]) -> str:
    """CPython tags as the catalog writes them: `3.10-3.14 3.14t`."""
    minors = sorted(int(tag[3:]) for tag in tags if not tag.endswith("t"))
    threaded = sorted((tag for tag in tags if tag.endswith("t")), key=lambda tag: int(tag[3:-1]))
    parts: list[str] = []
    while minors:
        length = 1
        while length < len(minors) and minors[length] == minors[0] + length:
            length += 1
        first, last = minors[0], minors[length - 1]
        parts.append(f"3.{first}" if first == last else f"3.{first}-3.{last}")
        minors = minors[length:]
    return " ".join(parts + [python(tag) for tag in threaded])


def expected(note: str) -> str:
    """Tags that a cell's note expects though its source does not list them."""
    found = re.search(r"expected as on PyPI: ([\w,]+)", note)
    return pythons(found.group(1).split(",")) if found else ""


def platforms(names: Iterable[str]) -> str:
    """Platforms in one cell, in their usual order."""
    return " ".join(sorted(names, key=PLATFORMS.index))


def rows(cells: Iterable[tuple[str, str, tuple[str, ...]]], releases: list[str]) -> list[str]:
    """Rows (release range, platforms, rest...) from cells (release, platform, rest), as few as say the same."""
    grouped: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for release, platform, rest in cells:
        grouped.setdefault((release, rest), []).append(platform)
    lines: list[tuple[str, str, tuple[str, ...], list[str]]] = []
    for (release, rest), names in grouped.items():
        where = platforms(names)
        for first, known, other, members in lines:
            follows = releases.index(members[-1]) + 1 == releases.index(release)
            if (known, other) == (where, rest) and follows and first:
                members.append(release)
                break
        else:
            lines.append((release, where, rest, [release]))
    out = []
    for first, where, rest, members in lines:
        span = first if len(members) == 1 else f"{first}-{members[-1]}"
        trimmed = list(rest)
        while trimmed and not trimmed[-1]:
            trimmed.pop()
        out.append("  [" + ", ".join(json.dumps(cell) for cell in (span, where, *trimmed)) + "],")
    return out


def builds(matrix: dict[str, Any]) -> str:
    """`builds.toml`: what each index holds, and what PyPI's own wheel is."""
    releases = sorted(matrix["releases"], key=version)
    index: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {}
    unseen: dict[str, list[str]] = {}
    pypi: list[tuple[str, str, tuple[str, ...]]] = []
    for release in releases:
        row = matrix["releases"][release]
        for backend, cells in row["index"].items():
            for platform, cell in cells.items():
                if UNSEEN.search(cell["source"]):
                    unseen.setdefault(release, []).append(backend)
                    continue
                rest = (pythons(cell["py"]), cell["status"], cell["source"], expected(cell.get("note", "")))
                index.setdefault(backend, []).append((release, platform, rest))
        for platform, tags in row["pypi_files"].items():
            build = row["pypi"].get(platform) or row["pypi"]["macos"]
            pypi.append((release, platform, (build.split()[0], pythons(tags))))
    text = [
        "# What PyTorch's indexes hold. Generated by tools/regenerate_catalog.py: change its input, not this file.",
        "# A row: releases, platforms, Pythons, certainty, source, Pythons expected beside those that it lists.",
        "# Certainty: server, pypi, url, verified = seen; declared = an official matrix or install command says so;",
        "# inferred = not confirmed. A platform, backend or release without a row has no wheel.",
        "",
        "# The day up to which the rows were kept.",
        f"as_of = {json.dumps(matrix['as_of'])}",
        "",
        "[sources]",
        *(f"{key} = {json.dumps(value)}" for key, value in matrix["sources"].items()),
        "",
        "[releases]",
        *(f'"{release}" = "{matrix["releases"][release]["date"]}"' for release in releases),
        "",
        "# Releases whose builds for a family nobody has seen: these backends are asked for them.",
        "[unseen]",
        *(f'"{release}" = {json.dumps(names)}' for release, names in unseen.items()),
        "",
        "[builds]",
    ]
    for backend, cells in sorted(index.items(), key=lambda item: rank(item[0])):
        key = json.dumps(backend) if "." in backend else backend
        text += [f"{key} = [", *rows(cells, releases), "]"]
    text += [
        "",
        "# What PyPI's own wheel is: releases, platforms, the backend it was built for, Pythons (verified).",
        "[pypi]",
        "rows = [",
        *rows(pypi, releases),
        "]",
    ]
    return "\n".join(text) + "\n"


def requirement(text: str, releases: list[str]) -> str | None:
    """The torch releases a wheel's requirement admits, as a range; None where it does not say."""
    found = re.search(r"(==|>=)\s*(\d+\.\d+\.\d+)\)?$", text)
    if not found or found.group(2) not in releases:
        return None
    return found.group(2) if found.group(1) == "==" else f"{found.group(2)}-"


def pairs(data: dict[str, Any], releases: list[str]) -> str:  # noqa: C901, PLR0912  one rule after another, for people
    """`pairs.toml`: for each version of a paired package the torch releases it goes with."""
    text = [
        "# Which torch each version of its companion packages goes with. Generated by tools/regenerate_catalog.py.",
        '# "2.6.0": that release; "2.14.0-": it and newer ones. Yanked versions are left out.',
        "# Source: the requirement in the METADATA of PyPI's wheels (verified); where a wheel states none (torchcodec;",
        "# torchaudio 2.11.0), the project's own compatibility table; torchtext 0.18.0 says torch>=2.3.0 and fails",
        "# to load from 2.4 on (pytorch/text#2272, reports).",
    ]
    by_torch: dict[str, dict[str, Any]] = data["by_torch"]
    for package in PAIRED:
        text += ["", f"[{package}]"]
        for number, row in data["packages"][package].items():
            if row["yanked"]:
                continue
            admitted = NARROWER.get((package, number)) or requirement(row["torch"], releases)
            if admitted is None:
                partners = [torch for torch, row in by_torch.items() if row[package] == number]
                admitted = partners[0] if len(partners) == 1 else f"{partners[0]}-"
            text.append(f'"{number}" = "{admitted}"')
    text += ["", "[torchcodec]"]
    minors: dict[str, list[str]] = {}
    floor: tuple[str, str] | None = None
    for torch, row in by_torch.items():
        for number in row["torchcodec"] or ():
            if number.startswith(">="):
                floor = floor or (number[2:], torch)
            elif number != "0.0.3" or torch:
                minors.setdefault(number, []).append(torch)
    for number, row in data["packages"]["torchcodec"].items():
        if row["yanked"]:
            continue
        minor = ".".join(number.split(".")[:2])
        partners = minors.get(number) or minors.get(minor, [])
        if floor and version(minor) >= version(floor[0]):
            text.append(f'"{number}" = "{floor[1]}-"')
        elif partners:
            same = partners[0] if len(partners) == 1 else f"{partners[0]}-{partners[-1]}"
            text.append(f'"{number}" = "{same}"')
    text += [
        "",
        "# Versions whose wheels do not say (all of) which torch they need: uv would combine them with any.",
        "[loose]",
    ]
    for package in (*PAIRED, "torchcodec"):
        rows_ = data["packages"][package].items()
        names = [
            number
            for number, row in rows_
            if (row["torch"] == "none" or (package, number) in NARROWER) and not row["yanked"]
        ]
        if names:
            text.append(f"{package} = {json.dumps(names)}")
    return "\n".join(text) + "\n"


def main(arguments: list[str]) -> int:
    """Show what would change, and write it if asked to. Exit code: 1 if the result does not hold together."""
    parser = argparse.ArgumentParser(description="Regenerate builds.toml and pairs.toml from their sources.")
    parser.add_argument("--matrix", required=True, type=Path)
    parser.add_argument("--pairs", required=True, type=Path)
    parser.add_argument("--write", action="store_true", help="write the files; else only show the difference")
    options = parser.parse_args(arguments)
    matrix = json.loads(options.matrix.read_text(encoding="utf-8"))
    paired = json.loads(options.pairs.read_text(encoding="utf-8"))
    releases = sorted(matrix["releases"], key=version)
    new = {"builds.toml": builds(matrix), "pairs.toml": pairs(paired, releases)}

    faults = catalog_faults(catalog.read({**catalog.texts(), **new}))
    if faults:
        print(*faults, sep="\n", file=sys.stderr)
        return 1
    for name, text in new.items():
        path = CATALOG / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        sys.stdout.writelines(
            difflib.unified_diff(old.splitlines(True), text.splitlines(True), f"a/{name}", f"b/{name}", n=0)
        )
        if options.write:
            path.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
