"""What the choice is asked and what it answers: the types, nothing else."""

from typing import NamedTuple

from uvtorch.backend import Backend


class Request(NamedTuple):
    """What the command and the project ask of PyTorch."""

    requirements: tuple[str, ...] = ()
    """PEP 508 requirements of PyTorch packages: those on the command line and those the project already has."""
    python: str | None = None
    """The interpreter the project uses, `3.12` or `3.14t`; None where it is not known."""
    requires_python: str | None = None
    """The project's `requires-python`, a PEP 440 specifier set."""
    backend: Backend | None = None
    """Asked for by name: an option, an environment variable, configuration. It is obeyed."""
    families: tuple[str, ...] = ()
    """Restrict to these backend families (`("cu",)`); empty: any. Used where a project offers only some."""


class Candidate(NamedTuple):
    """One (backend, newest torch it could give for this request), and what was made of it."""

    backend: Backend
    torch: str | None
    accepted: bool
    reason: str
    """Why it was rejected, or why it was accepted: a clause a person can read, in ASCII."""
    native: bool = False
    """The driver's own CUDA is at least the build's (else it runs by minor-version compatibility)."""
    certainty: str = ""
    """How sure the catalog is that this build exists (`catalog.CERTAINTIES`)."""


class Decision(NamedTuple):
    """What `choose` decided. Exactly one of `backend` and `refusal` is set, unless `ask` is not empty."""

    backend: Backend | None
    torch: str | None = None
    """The newest known torch release that the choice gives."""
    native: bool = False
    reason: str = ""
    """One clause for the decision line: `driver 570.124.06 supports CUDA 12.8; H100 (9.0)`."""
    platforms: frozenset[str] | None = None
    """The platforms that have wheels of this torch on this index (`backend.PLATFORMS` keys); None: all."""
    companions: tuple[str, ...] = ()
    """Packages torch needs from the same index by another name: `triton-rocm`."""
    bounds: tuple[tuple[str, str], ...] = ()
    """(package, specifier) bounds without which uv would resolve to a build that cannot run: `("torch", "<2.12")`."""
    prerelease: bool = False
    """The channel holds only pre-releases, which uv must be told to allow."""
    warnings: tuple[str, ...] = ()
    refusal: str | None = None
    """One sentence saying what the request needs and what this machine has."""
    hints: tuple[str, ...] = ()
    """With a refusal: what would fit."""
    ask: tuple[Backend, ...] = ()
    """The catalog does not know the requested version or backend: ask these indexes, in this order, through uv."""
    candidates: tuple[Candidate, ...] = ()
