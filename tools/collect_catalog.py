"""Bring the catalog up to date from the indexes: what PyTorch's list of each build, and what the default index says.

usage: python tools/collect_catalog.py [--index-base URL] [--default-index URL] [--save FILE] [--write]
       python tools/collect_catalog.py --collected FILE [--write]     what was collected before, without the network

What is known already is the input: `uvtorch/catalog`. Read are the pages of torch and its companions on every backend's
index, and the default index's metadata of the versions that the catalog lacks. Pages are asked for one after another,
kept in --cache, and asked for again after half a day: a run that was cut off goes on where it was. Shown is the
difference of the catalog's files, written with --write only; then what a person has to look at: rows that are copied
from the release before, and what the tables kept by hand lack.

Exit code: 1 if the result would not hold together, or an index cannot be asked; nothing is written then.
"""

import argparse
import datetime
import difflib
import hashlib
import json
import os
import re
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from tests.choose.catalog_faults import faults as catalog_faults
from uvtorch import catalog as catalogs
from uvtorch.backend import DEFAULT_INDEX_BASE, PLATFORMS, Backend, parse
from uvtorch.catalog import PYTHONS, Build, Catalog, number

CATALOG = Path(__file__).resolve().parent.parent / "uvtorch" / "catalog"
COMPANIONS = ("torchvision", "torchaudio", "torchtext", "torchcodec")
SEEN = ("server", "pypi", "url", "verified")
KEPT_FOR = 12 * 3600.0
"""For how many seconds a page in the cache is as good as one that is asked for."""


class File(NamedTuple):
    """A wheel on a page."""

    url: str
    version: Version
    platforms: frozenset[str]
    """Keys of `PLATFORMS`."""
    pythons: frozenset[str]
    """As the catalog writes them; every Python for a wheel that is for all."""
    yanked: bool
    date: str
    """The day of the upload, "" where the page does not say."""


class Pages:
    """Pages by URL: from the cache, or asked for: one at a time, with a pause, and again where a server is busy."""

    pause = 0.3
    """Seconds between two questions."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.asked = 0

    def get(self, url: str) -> str | None:
        """The text at a URL; None where there is nothing (403, 404). OSError where the server does not answer."""
        kept = self.cache / hashlib.sha256(url.encode()).hexdigest()
        if kept.exists() and time.time() - kept.stat().st_mtime < KEPT_FOR:
            text = kept.read_text(encoding="utf-8")
        else:
            self.asked += 1
            print(f"[{self.asked}] {url}", file=sys.stderr, flush=True)
            text = self._ask(url) or ""
            self.cache.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(".partial")
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, kept)
        return text or None

    def _ask(self, url: str) -> str | None:
        kinds = "application/vnd.pypi.simple.v1+json, text/html;q=0.5, */*;q=0.1"
        request = urllib.request.Request(url, headers={"User-Agent": "uvtorch-catalog", "Accept": kinds})
        for wait in (2.0, 8.0, 30.0, 0.0):
            time.sleep(self.pause)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return str(answer.read().decode("utf-8"))
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in (403, 404):
                    return None
                if not wait or (error.code < 500 and error.code != 429):
                    raise
                time.sleep(min(float(error.headers.get("Retry-After") or wait), 120.0))
        return None


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs))


def files(page: str, url: str) -> Iterator[File]:
    """The wheels of final releases on a page of an index, in HTML or JSON (PEP 503, 691, 700)."""
    if page.lstrip().startswith("{"):
        rows = [(row["url"], bool(row.get("yanked")), row.get("upload-time", "")) for row in json.loads(page)["files"]]
    else:
        links = _Links()
        links.feed(page)
        rows = [(str(one["href"]), "data-yanked" in one, "") for one in links.found if one.get("href")]
    for link, yanked, uploaded in rows:
        address = urljoin(url, link).partition("#")[0]
        try:
            _, version, _, tags = parse_wheel_filename(unquote(urlsplit(address).path.rpartition("/")[2]))
        except InvalidWheelFilename:
            continue
        if not version.is_prerelease:
            places = frozenset(filter(None, (_platform(tag.platform) for tag in tags)))
            pythons = frozenset().union(*(_python(tag.interpreter, tag.abi) for tag in tags))
            yield File(address, version, places, pythons, yanked, (uploaded or "")[:10])


def _platform(tag: str) -> str:
    """A wheel's platform tag as the catalog writes it, "" for others."""
    system, machine = tag.partition("_")[0], re.search("x86_64$|amd64$|aarch64$|arm64$", tag)
    known = {"win": "windows", "macosx": "macos"}.get(system, "linux" if "linux" in system else "")
    key = f"{known}_{machine[0]}" if machine else "any"
    return key if key in PLATFORMS else ""


def _python(interpreter: str, abi: str) -> frozenset[str]:
    if interpreter.startswith("py3"):
        return frozenset(PYTHONS)
    found = re.fullmatch(r"cp3(\d+)", interpreter)
    return frozenset([f"3.{found[1]}{'t' if abi.endswith('t') else ''}"]) if found else frozenset()


Index = dict[str, dict[str, dict[str, list[str]]]]
"""Package -> version -> platform -> Pythons."""


def index(pages: Pages, backend: Backend, base: str) -> Index:
    """What a backend's index has of PyTorch 2: its own builds, and on the CPU's what has no local version."""
    found: Index = {}
    for package in ("torch", *COMPANIONS):
        url = f"{backend.index_url(base)}/{package}/"
        for file in files(pages.get(url) or "", url):
            # Old wheels without a local version, and other backends' with theirs, are mirrored on many indexes.
            own = (file.version.local or "cpu") == backend.name
            if own and not file.yanked and (package != "torch" or file.version.major >= 2):
                platforms = found.setdefault(package, {}).setdefault(file.version.public, {})
                for platform in file.platforms:
                    platforms[platform] = sorted({*platforms.get(platform, ()), *file.pythons})
    return found


def default_torch(pages: Pages, url: str, known: Iterable[str]) -> dict[str, Any]:
    """The releases of torch that only the default index knows: the day, and per platform Pythons and the build."""
    found: dict[str, Any] = {}
    page = f"{url.rstrip('/')}/torch/"
    for file in files(pages.get(page) or "", page):
        release = file.version.public
        if release in known or file.yanked or file.version.major < 2:
            continue
        row = found.setdefault(release, {"date": file.date, "wheels": {}})
        for platform in file.platforms:
            wheel = row["wheels"].setdefault(platform, {"pythons": [], "backend": ""})
            wheel["pythons"] = sorted({*wheel["pythons"], *file.pythons})
            wheel["backend"] = wheel["backend"] or _built_for(pages.get(f"{file.url}.metadata") or "", platform)
    return found


def _built_for(metadata: str, platform: str) -> str:
    """The backend of the default index's own wheel, by the CUDA runtime that its metadata requires."""
    pattern = r"Requires-Dist: (?:cuda-toolkit|nvidia-cuda-runtime)[^=;]*==(\d+)\.(\d+)"
    found = re.search(pattern, metadata) if platform.startswith("linux") else None
    return f"cu{found[1]}{found[2]}" if found else "cpu"


def default_pairs(pages: Pages, url: str, package: str, newest: str) -> dict[str, str]:
    """The versions of a companion after the newest known one -> what they require of torch, "" for nothing."""
    found: dict[str, str] = {}
    page = f"{url.rstrip('/')}/{package}/"
    for file in files(pages.get(page) or "", page):
        if file.version > Version(newest) and file.version.public not in found and not file.yanked:
            required = re.search(r"Requires-Dist: torch *([(<>=!~].*)", pages.get(f"{file.url}.metadata") or "")
            found[file.version.public] = required[1].strip("() ") if required else ""
    return found


def collect(pages: Pages, base: str, default: str, catalog: Catalog) -> dict[str, Any]:
    """Everything that is read, as it is written to --collected. OSError where an index cannot be asked."""
    unseen = (backend for backends in catalog.unseen.values() for backend in backends)
    backends = dict.fromkeys([*catalog.builds, *unseen, *catalog.announced])
    return {
        "as_of": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "indexes": {str(backend): index(pages, backend, base) for backend in backends},
        "torch": default_torch(pages, default, catalog.releases),
        "pairs": {one: default_pairs(pages, default, one, max(catalog.pairs[one], key=Version)) for one in COMPANIONS},
    }


def merged(catalog: Catalog, collected: Mapping[str, Any], notes: list[str]) -> Catalog:
    """The catalog with what was read: its builds, releases and what the default index's own wheels are."""
    builds = dict(catalog.builds)
    for name, found in collected["indexes"].items():
        backend = parse(name)
        listed = found.get("torch", {})
        if backend is None or not listed:
            notes += [f"{name}: its index lists no torch"] if backend in builds else []
        elif backend.family == "rocm" and backend not in catalog.devices:
            notes.append(f"{name} has torch {', '.join(listed)}: kernels.toml needs a row of its GPUs first")
        elif backend.family == "cu" and backend not in builds:
            notes.append(f"{name} has torch {', '.join(listed)}: kernels.toml needs rows of its kernels first")
        else:
            builds[backend] = _read(name, builds.get(backend, {}), listed, notes)
    dates = {release: row["date"] or collected["as_of"] for release, row in collected["torch"].items()}
    new = {release for index in builds.values() for release in index}
    dates = {release: catalog.releases.get(release) or dates.get(release, collected["as_of"]) for release in new}
    own = {release: _wheels(row["wheels"]) for release, row in collected["torch"].items() if release in new}
    unseen = {
        release: tuple(one for one in backends if release not in builds.get(one, {}))
        for release, backends in catalog.unseen.items()
    }
    return catalog._replace(
        as_of=collected["as_of"],
        releases={release: dates[release] for release in sorted(dates, key=number)},
        sources={**catalog.sources, "INDEX": f"PyTorch's index pages, read {collected['as_of']}"},
        builds={one: {release: builds[one][release] for release in sorted(builds[one], key=number)} for one in builds},
        pypi={**catalog.pypi, **own},
        unseen={release: backends for release, backends in unseen.items() if backends},
    )


def _wheels(rows: Mapping[str, Any]) -> dict[str, tuple[Backend, frozenset[str]]]:
    return {key: (parse(row["backend"]) or Backend("cpu"), frozenset(row["pythons"])) for key, row in rows.items()}


def _read(
    name: str, known: Mapping[str, Mapping[str, Build]], listed: Mapping[str, Any], notes: list[str]
) -> dict[str, dict[str, Build]]:
    """A backend's builds as its index lists them. What is known just so keeps its source."""
    seen = {release for release, cells in known.items() if any(one.certainty in SEEN for one in cells.values())}
    notes += [f"{name}: torch {release} is gone from its index" for release in sorted(seen - listed.keys(), key=number)]
    found: dict[str, dict[str, Build]] = {}
    for release, platforms in listed.items():
        for platform, pythons in platforms.items():
            build, old = Build(frozenset(pythons), "server", "INDEX"), known.get(release, {}).get(platform)
            same = old and old.certainty in SEEN and not old.expected and old.pythons == build.pythons
            found.setdefault(release, {})[platform] = old if old and same else build
    return found


def builds_toml(catalog: Catalog) -> str:
    """`builds.toml`: what each index holds, and what the default index's own wheel is."""
    releases = list(catalog.releases)
    text = [
        "# What PyTorch's indexes hold. Written by tools/collect_catalog.py.",
        "# A row: releases, platforms, Pythons, certainty, source, Pythons expected beside those that it lists.",
        "# Certainty: server, pypi, url, verified = seen; declared = an official matrix or install command says so;",
        "# inferred = not confirmed. A platform, backend or release without a row has no wheel.",
        "",
        "# The day up to which the rows were kept.",
        f"as_of = {json.dumps(catalog.as_of)}",
        "",
        "[sources]",
        *(f"{key} = {json.dumps(value)}" for key, value in catalog.sources.items()),
        "",
        "[releases]",
        *(f'"{release}" = "{date}"' for release, date in catalog.releases.items()),
        "",
        "# Releases whose builds for a family nobody has seen: these backends are asked for them.",
        "[unseen]",
        *(f'"{release}" = {json.dumps([*map(str, backends)])}' for release, backends in catalog.unseen.items()),
        "",
        "[builds]",
    ]
    for backend in sorted(catalog.builds, key=lambda one: one.rank):
        cells = (
            (release, key, (_said(one.pythons - one.expected), one.certainty, one.source, _said(one.expected)))
            for release, index in catalog.builds[backend].items()
            for key, one in index.items()
        )
        name = json.dumps(str(backend)) if "." in str(backend) else str(backend)
        text += [f"{name} = [", *rows(cells, releases), "]"]
    own = (
        (release, key, (str(backend), _said(pythons)))
        for release in releases
        for key, (backend, pythons) in catalog.pypi.get(release, {}).items()
    )
    text += [
        "",
        "# What PyPI's own wheel is: releases, platforms, the backend it was built for, Pythons (verified).",
        "[pypi]",
        "rows = [",
        *rows(own, releases),
        "]",
    ]
    return "\n".join(text) + "\n"


def _said(pythons: Iterable[str]) -> str:
    """Pythons as the catalog writes them: `3.10-3.14 3.14t`."""
    plain = sorted((one for one in pythons if not one.endswith("t")), key=number)
    spans: list[list[str]] = []
    for one in plain:
        follows = spans and number(one)[1] == number(spans[-1][-1])[1] + 1
        spans[-1].append(one) if follows else spans.append([one])
    texts = [span[0] if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans]
    return " ".join(texts + sorted((one for one in pythons if one.endswith("t")), key=lambda one: number(one[:-1])))


def rows(cells: Iterable[tuple[str, str, tuple[str, ...]]], releases: list[str]) -> list[str]:
    """Rows (release range, platforms, rest...) from cells (release, platform, rest), as few as say the same."""
    grouped: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for release, platform, rest in cells:
        grouped.setdefault((release, rest), []).append(platform)
    lines: dict[tuple[str, tuple[str, ...]], list[list[str]]] = {}
    for (release, rest), names in grouped.items():
        spans = lines.setdefault((" ".join(sorted(names, key=PLATFORMS.index)), rest), [])
        if spans and releases.index(spans[-1][-1]) + 1 == releases.index(release):
            spans[-1].append(release)
        else:
            spans.append([release])
    found = [(span, where, rest) for (where, rest), spans in lines.items() for span in spans]
    out = []
    for span, where, rest in sorted(found, key=lambda row: (releases.index(row[0][0]), _places(row[1]))):
        texts = [span[0] if len(span) == 1 else f"{span[0]}-{span[-1]}", where, *rest]
        while not texts[-1]:
            texts.pop()
        out.append(f"  [{', '.join(map(json.dumps, texts))}],")
    return out


def _places(platforms: str) -> list[int]:
    return [PLATFORMS.index(platform) for platform in platforms.split()]


def pairs_toml(text: str, new: Mapping[str, Mapping[str, str]], releases: Mapping[str, str], notes: list[str]) -> str:
    """`pairs.toml` with new versions: those that name a torch go with it, others with what the version before does."""
    tables = tomllib.loads(text)
    for package, versions in new.items():
        for version, required in sorted(versions.items(), key=lambda one: Version(one[0])):
            named = re.fullmatch(r"(==|>=)\s*([\d.]+)(?:\+\w+)?", required)
            if named and named[2] in releases:
                span = named[2] + ("-" if named[1] == ">=" else "")
            else:
                span = list(tables[package].values())[-1]
                tables["loose"].setdefault(package, []).append(version)
                notes.append(f"{package} {version} says {required or 'nothing'} of torch: taken to go with {span}")
            tables[package][version] = span
    head = text.partition("\n\n[")[0]
    body = [
        "\n".join([f"[{package}]", *(f"{json.dumps(version)} = {json.dumps(span)}" for version, span in table.items())])
        for package, table in tables.items()
        if package != "loose"
    ]
    said = "# Versions whose wheels do not say (all of) which torch they need: uv would combine them with any."
    loose = (f"{package} = {json.dumps(versions)}" for package, versions in tables["loose"].items())
    return "\n\n".join([head, *body, "\n".join([said, "[loose]", *loose])]) + "\n"


def kernels_toml(text: str, catalog: Catalog, notes: list[str]) -> str:
    """`kernels.toml` with a row for each new CUDA build: inferred, the kernels of the release before."""
    added = []
    for backend, index in catalog.builds.items():
        for release, cells in index.items() if backend.family == "cu" else ():
            for platform in cells:
                before = [one for one in catalog.kernels if (one[0], one[2]) == (backend, platform)]
                last = max(before, key=lambda one: number(one[1]), default=None)
                if last and number(last[1]) < number(release):
                    known = catalog.kernels[last]
                    codes = " ".join(f"{major}.{minor}" for major, minor in known.codes) + ("+PTX" if known.ptx else "")
                    row = [str(backend), release, platform, codes, "inferred", f"as {last[1]}"]
                    added.append(f"  [{', '.join(map(json.dumps, row))}],\n")
                    notes.append(f"{backend} {release} on {platform}: its kernels are taken to be those of {last[1]}")
    head, end, rest = text.partition("\n]\n")
    return f"{head}\n{''.join(added)}{end[1:]}{rest}"


def lacking(catalog: Catalog, collected: Mapping[str, Any]) -> Iterator[str]:
    """Where the newest torch of an index finds no version of a companion there, or the catalog wrongly says so."""
    read = {package for found in collected["indexes"].values() for package in found}
    for name, found in collected["indexes"].items():
        backend, listed = parse(name), found.get("torch", {})
        release = max(listed, key=number, default="")
        for package in sorted(read - {"torch"}) if backend in catalog.builds and release in catalog.releases else ():
            partners = {one for one, torch in catalog.pairs[package].items() if release in torch}
            has = bool(partners & found.get(package, {}).keys())
            if backend and has == (release in catalog.lacking.get((package, backend), ())) and partners:
                says = "has a" if has else "has no"
                yield f"{name} {says} {package} for torch {release}: see `lacking` in wheels.toml"


def update(collected: Mapping[str, Any], *, write: bool) -> int:
    """Show what would change, and write it if asked to. The exit code."""
    notes: list[str] = []
    texts = {name: (CATALOG / name).read_text(encoding="utf-8") for name in catalogs.FILES}
    known = catalogs.read(texts)
    catalog = merged(known, collected, notes)
    new = {
        **texts,
        "builds.toml": builds_toml(catalog),
        "pairs.toml": pairs_toml(texts["pairs.toml"], collected["pairs"], catalog.releases, notes),
        "kernels.toml": kernels_toml(texts["kernels.toml"], catalog, notes),
    }
    result = catalogs.read(new)
    for name, text in new.items():
        sys.stdout.writelines(
            difflib.unified_diff(texts[name].splitlines(True), text.splitlines(True), f"a/{name}", f"b/{name}", n=0)
        )
    print("\nTo look at:", *sorted(notes), *lacking(result, collected), sep="\n- ")
    faults = catalog_faults(result)
    print(*faults, sep="\n", file=sys.stderr)
    for name, text in new.items() if write and not faults else ():
        (CATALOG / name).write_text(text, encoding="utf-8", newline="\n")
    return 1 if faults else 0


def _default_index() -> str:
    """The default index as pip knows it, where the environment names none."""
    from pip._internal.models.index import PyPI  # noqa: PLC0415  only where it is needed

    return os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or str(PyPI.simple_url)


def main(arguments: list[str]) -> int:
    """Collect, or read what was collected, and update the catalog. The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index-base", default=DEFAULT_INDEX_BASE)
    parser.add_argument("--default-index", default="", help="default: UV_DEFAULT_INDEX, PIP_INDEX_URL, pip's own")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "uvtorch-catalog")
    parser.add_argument("--collected", type=Path, metavar="FILE", help="read this instead of asking")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write what was collected there, as JSON")
    parser.add_argument("--write", action="store_true", help="write the catalog; else only show the difference")
    options = parser.parse_args(arguments)
    if options.collected:
        return update(json.loads(options.collected.read_text(encoding="utf-8")), write=options.write)
    try:
        default = options.default_index or _default_index()
        collected = collect(Pages(options.cache), options.index_base, default, catalogs.load())
    except OSError as error:
        print(f"error: {error}; what was read is kept, the next run goes on from there", file=sys.stderr)
        return 1
    if options.save:
        options.save.write_text(json.dumps(collected, indent=1) + "\n", encoding="utf-8")
    return update(collected, write=options.write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
