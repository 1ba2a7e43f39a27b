"""The catalog: PyTorch releases, backends, kernels and drivers, as data with its sources. No decisions here.

The tables are the TOML files beside this module, each with a comment on its columns and sources.
"""

import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product, takewhile
from typing import Any, NamedTuple

from uvtorch import files
from uvtorch.backend import Backend, parse
from uvtorch.errors import UsageError

FILES = ("builds.toml", "pairs.toml", "kernels.toml", "drivers.toml", "wheels.toml")

PYTHONS = (*(f"3.{minor}" for minor in range(8, 16)), "3.13t", "3.14t", "3.15t")
"""Every Python that a wheel was ever built for."""


class Build(NamedTuple):
    """One (backend, release, platform) that has wheels."""

    pythons: frozenset[str]
    """`3.12`, `3.14t`."""
    certainty: str
    """How sure the row is, in the words of builds.toml."""
    source: str
    expected: frozenset[str] = frozenset()
    """Those of `pythons` that the source does not list."""


class Kernels(NamedTuple):
    """The compute capabilities that a CUDA build has code for."""

    codes: tuple[tuple[int, int], ...]
    """In rising order."""
    ptx: tuple[int, int] | None
    """The one it also has PTX for."""
    certainty: str
    source: str


class Catalog(NamedTuple):
    """What is known of PyTorch's builds. Versions are as PyTorch writes them, oldest first; reasons are clauses."""

    as_of: str
    """`2026-11-20`: the day up to which it was kept."""
    releases: dict[str, str]
    """Release -> date."""
    sources: dict[str, str]
    builds: dict[Backend, dict[str, dict[str, Build]]]
    """Backend -> release -> platform."""
    pypi: dict[str, dict[str, tuple[Backend, frozenset[str]]]]
    """Release -> platform -> (the backend of PyPI's own wheel, its Pythons)."""
    unseen: dict[str, tuple[Backend, ...]]
    """Release -> backends that probably have it."""
    announced: tuple[Backend, ...]
    kernels: dict[tuple[Backend, str, str], Kernels]
    """(backend, release, platform)."""
    devices: dict[Backend, frozenset[str]]
    """The AMD architectures that a build has code for."""
    unusable: dict[tuple[str, Backend], tuple[frozenset[str], str]]
    """(architecture, this backend and newer ones) -> the releases (empty: all) that do not run on it, and why."""
    idle: dict[str, str]
    """AMD architecture -> why it stays idle unless a backend is named."""
    intel_names: tuple[str, ...]
    """Parts of the names of supported GPUs, for those without a PCI id."""
    minimum_driver: dict[int, dict[str, str]]
    """CUDA major -> system -> the oldest driver."""
    forward_driver: dict[int, str]
    """CUDA major -> the oldest Linux driver for NVIDIA's forward-compatibility package."""
    reports: dict[str, tuple[tuple[tuple[int, ...], tuple[int, int]], ...]]
    """System -> (first driver, CUDA it supports natively), oldest first."""
    pairs: dict[str, dict[str, tuple[str, ...]]]
    """Package -> its version -> the torch releases it goes with."""
    loose: frozenset[tuple[str, str]]
    """(package, version) whose wheel does not say which torch it needs."""
    paired_pythons: dict[tuple[str, str], frozenset[str]]
    with_cuda: dict[str, list[str]]
    """Package -> the versions whose wheel on the default index holds CUDA code."""
    lacking: dict[tuple[str, Backend], frozenset[str]]
    """(package, backend) -> the releases for which its index lacks the package."""
    oldest: dict[tuple[str, Backend | None, str], tuple[int, ...]]
    """(platform, backend or None for all, release) -> the oldest glibc or macOS."""
    companions: tuple[tuple[Backend, frozenset[str], tuple[str, ...]], ...]
    """(this backend, or family, and newer ones; releases; packages)."""
    split: tuple[Backend, ...]
    """ROCm's libraries are in packages of their own from the first on, those of a GPU from the second on."""
    elsewhere: dict[tuple[str, str], str]
    """(family, platform) -> who else has wheels, a clause with `{gfx}`."""

    @property
    def newest(self) -> str:
        """The newest release."""
        return next(reversed(self.releases))

    def of(self, family: str) -> dict[Backend, dict[str, dict[str, Build]]]:
        """The builds of a family."""
        return {backend: index for backend, index in self.builds.items() if backend.family == family}

    def build(self, backend: Backend, release: str | None, platform: str) -> Build | None:
        """One build; None where there is no such wheel."""
        return self.builds.get(backend, {}).get(release or "", {}).get(platform)

    def on_pypi(self, release: str | None, platform: str) -> tuple[Backend | None, frozenset[str]]:
        """What PyPI's own wheel of a release was built for, and its Pythons; None where it has none."""
        return self.pypi.get(release or "", {}).get(platform, (None, frozenset()))


@cache
def number(text: str) -> tuple[int, ...]:
    """`570.124.06` as (570, 124, 6); parts that are not numbers end it."""
    return tuple(map(int, takewhile(lambda part: part.isascii() and part.isdigit(), text.split("."))))


def since(backend: Backend, first: Backend) -> bool:
    """Whether a backend is `first`, or a newer one of its family."""
    return backend.family == first.family and backend.version >= first.version


@cache
def pythons(text: str) -> frozenset[str]:
    """`3.10-3.12 3.13t` as {3.10, 3.11, 3.12, 3.13t}."""
    found: set[str] = set()
    for first, _, last in (part.partition("-") for part in text.split()):
        found.update(f"3.{minor}" for minor in range(int(first[2:]), int(last[2:]) + 1)) if last else found.add(first)
    return frozenset(found)


def texts(directory: str | None = None) -> dict[str, str]:
    """The catalog's files, the package's own where `directory` lacks one. UsageError if it has none."""
    found = {}
    for name in FILES:
        try:
            found[name] = files.read(os.path.join(directory or os.path.dirname(__file__), name)).decode()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeError) as fault:
            raise UsageError(f"the catalog's {name} in {directory} cannot be read: {fault}") from None
    if directory and not found:
        raise UsageError(f"{directory} has no catalog", f"a catalog is a directory with {', '.join(FILES)}")
    return {**texts(), **found} if directory else found


@cache
def load(directory: str | None = None) -> Catalog:
    """The catalog, or the copy in a directory. UsageError if that is wrong or incomplete."""
    catalog = read(texts(directory))
    if directory and (found := incomplete(catalog)):
        more = f" (and {len(found) - 1} more)" if found[1:] else ""
        raise UsageError(f"the catalog in {directory} is incomplete: {found[0]}{more}")
    return catalog


def incomplete(catalog: Catalog) -> list[str]:
    """The rows that the choice needs and a catalog lacks, a sentence each."""
    builds = catalog.builds
    cells = [(one, release, place) for one in builds for release in builds[one] for place in builds[one][release]]
    cuda, rocm = [key for key in cells if key[0].family == "cu"], [one for one in builds if one.family == "rocm"]
    majors = sorted({backend.version[0] for backend, _, _ in cuda})
    needed: tuple[tuple[str, Iterable[Any], Mapping[Any, Any]], ...] = (
        ("builds.toml: {} has no CPU build", catalog.releases, builds.get(Backend("cpu"), {})),
        ("builds.toml: {}: PyPI's wheel is not known", catalog.releases, catalog.pypi),
        ("kernels.toml: no row of kernels for {0[0]} {0[1]} on {0[2]}", cuda, catalog.kernels),
        ("kernels.toml: no row of devices for {}", rocm, catalog.devices),
        ("drivers.toml: no minimum driver for CUDA {}", majors, catalog.minimum_driver),
        ("drivers.toml: no driver for forward compatibility with CUDA {}", majors, catalog.forward_driver),
    )
    return [sentence.format(key) for sentence, keys, rows in needed for key in keys if key not in rows]


def read(files: Mapping[str, str]) -> Catalog:
    """The catalog from the text of its files. UsageError for what cannot be read, naming file and row."""
    data: dict[str, dict[str, Any]] = {}
    for name in FILES:
        with _reading(name):
            data[name] = tomllib.loads(files[name])
    with _reading("tables"):
        return _catalog(data)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
        said = f"{fault.args[0]!r} is missing" if isinstance(fault, KeyError) else str(fault)
        raise UsageError(f"the catalog's {what}: {said}") from None


def _catalog(data: dict[str, dict[str, Any]]) -> Catalog:
    builds, pairs, kernels, drivers, wheels = data.values()
    order, loose = list(builds["releases"]), pairs.pop("loose")
    data["builds.toml"] = {**builds["builds"], "pypi": builds["pypi"]["rows"]}

    def span(text: str) -> tuple[str, ...]:
        """`2.0.0`, `2.0.0-2.1.2` (both ends included), `2.10.0-` or nothing as releases."""
        first, dash, last = text.partition("-")
        start = order.index(first) if text else 0
        end = order.index(last) if last else len(order) - 1 if dash else start
        if end < start:
            raise ValueError(f"{text!r} ends before it starts")
        return tuple(order[start : end + 1]) if text else ()

    def some(text: str) -> frozenset[str]:
        return frozenset(span(text))

    def table(
        name: str, keys: Sequence[Callable[[str], Any]], value: Callable[..., Any], columns: int = 1
    ) -> dict[Any, Any]:
        """The rows of `FILE, NAME`. The first columns are keys: each may name several, and none comes twice."""
        file, _, part = name.partition(", ")
        rows, found = data[file][part], {}
        for row in rows.items() if isinstance(rows, dict) else rows:
            with _reading(f"{name}, row {row}"):
                said = value(*row[len(keys) :][:columns])
                for key in product(*(read(text) for read, text in zip(keys, row, strict=False))):
                    if key in found:
                        raise ValueError(f"a second row for {key}")
                    found[key] = said
        return found if len(keys) > 1 else {key: said for (key,), said in found.items()}

    def nested(name: str, value: Callable[..., Any], columns: int) -> dict[str, dict[str, Any]]:
        """A table of (release, platform), by release, in order."""
        found: dict[str, dict[str, Any]] = {release: {} for release in order}
        for (release, platform), said in table(name, (span, str.split), value, columns).items():
            found[release][platform] = said
        return {release: platforms for release, platforms in found.items() if platforms}

    with _reading("builds.toml, builds"):
        names = {name: _backend(name) for name in builds["builds"]}
    return Catalog(
        as_of=str(builds["as_of"]),
        releases=builds["releases"],
        sources=builds["sources"],
        builds={backend: nested(f"builds.toml, {name}", _build, 4) for name, backend in names.items()},
        pypi=nested("builds.toml, pypi", lambda name, tags: (_backend(name), pythons(tags)), 2),
        unseen={release: tuple(map(_backend, rows)) for release, rows in builds["unseen"].items()},
        announced=tuple(map(_backend, wheels["announced"])),
        kernels=table("kernels.toml, cuda", (backends_in, span, str.split), _kernels, 3),
        devices=table("kernels.toml, rocm", (backends_in,), lambda names: frozenset(names.split())),
        unusable=table("kernels.toml, rocm_unusable", (str.split, backends_in), lambda text, why: (some(text), why), 2),
        idle=table("kernels.toml, rocm_idle", (str.split,), str),
        intel_names=tuple(kernels["xpu_names"]),
        minimum_driver={int(major): row for major, row in drivers["minimum"].items()},
        forward_driver={int(major): driver for major, driver in drivers["forward"].items()},
        reports={
            system: tuple(sorted((number(driver), _capability(cuda)) for driver, cuda in row.items()))
            for system, row in drivers["reports"].items()
        },
        pairs={name: table(f"pairs.toml, {name}", (str.split,), span) for name in pairs},
        loose=frozenset((package, version) for package, versions in loose.items() for version in versions),
        with_cuda=wheels["with_cuda"],
        paired_pythons=table("wheels.toml, pythons", (str.split, str.split), pythons),
        lacking=table("wheels.toml, lacking", (str.split, backends_in), some),
        oldest=table("wheels.toml, oldest", (str.split, lambda names: backends_in(names) or [None], span), number),
        companions=tuple(
            (parse(whose) or Backend(whose), some(text), tuple(packages.split()))
            for whose, text, packages in wheels["companions"]
        ),
        split=backends_in(f"{wheels['split']} {wheels['device_extras']}"),
        elsewhere=table("wheels.toml, elsewhere", (str.split, str.split), str),
    )


def _build(tags: str, certainty: str, source: str, expected: str = "") -> Build:
    return Build(pythons(tags) | pythons(expected), certainty, source, pythons(expected))


def _kernels(codes: str, certainty: str, source: str) -> Kernels:
    capabilities = tuple(map(_capability, codes.removesuffix("+PTX").split()))
    if list(capabilities) != sorted(set(capabilities)):
        raise ValueError("compute capabilities out of order or twice")
    return Kernels(capabilities, capabilities[-1] if codes.endswith("+PTX") else None, certainty, source)


def _backend(name: str) -> Backend:
    backend = parse(name)
    if backend is None:
        raise ValueError(f"{name!r} is not a backend")
    return backend


def backends_in(names: str) -> tuple[Backend, ...]:
    """The backends of a table's cell. Raises ValueError."""
    return tuple(map(_backend, names.split()))


def _capability(text: str) -> tuple[int, int]:
    major, minor = map(int, text.split("."))
    return major, minor
