"""`uvtorch add flash-attn`: packages compiled against torch, from the index with their builds, and a torch to match."""

from collections.abc import Sequence

from uvtorch import cuda_extensions
from uvtorch.backend import Backend
from uvtorch.choose import Decision
from uvtorch.cuda_extensions import Extension
from uvtorch.edits import extensions, pin
from uvtorch.extension_query import Match, OutOfReachError, Query, built_from_source
from uvtorch.project import Choice
from uvtorch.requirement import named_by
from uvtorch.session import Session, decision_line, requirements_of
from uvtorch.steps import choices
from uvtorch.steps.follow import follow_and_sync
from uvtorch.steps.pins import pins_of
from uvtorch.steps.requested import Requested, words_with
from uvtorch.transaction import content


def add_extensions(session: Session, requested: Sequence[Requested]) -> tuple[int | None, tuple[str, ...]]:
    """Add the extensions that the command line names, with the PyTorch packages `requested` beside them.

    The exit code; None: nothing was done, and the warnings say what to know when uv does it. Raises as
    `Session.decide` does.
    """
    wanted, project = _wanted(session), session.project
    if not wanted:
        return None, ()
    names = " ".join(item.package for item in wanted)
    choice, backend = None, _backend(session, requested)
    requirements = (*(item.text for item in requested), *requirements_of(project))
    if offered := project.selectable():
        choice = next((one for one in offered if one.target == choices.target_of(session.line)), None)
        if requested or choice is None or choice.backend is None:
            return None, (_needs_choice(offered, names),)
        wanted = [*map(_unbounded, wanted)]
        requirements, backend = choices.requirements_of_choice(project, choice), choice.backend
    first = session.decide(requirements, backend)
    query = Query(session, session.request(requirements, backend))
    try:
        found = next(filter(None, (query.best(one, wanted) for one in _backends(first, choice))), None)
        if found is None:
            return None, tuple(built_from_source(first, wanted, query))
    except OutOfReachError as error:
        return None, (f"{error}: {names} is left to uv, and may be built for another torch or CUDA",)
    return _take(session, requested, found, choice), ()


def _needs_choice(offered: Sequence[Choice], names: str) -> str:
    cuda = next((one for one in offered if one.family == "cu"), offered[0])
    option = f"{'--optional' if cuda.kind == 'extra' else '--group'} {cuda.name}"
    return f"{names} is built for one backend: `uvtorch add {option} {names}` adds it to that choice"


def _unbounded(item: Extension) -> Extension:
    """Only from indexes whose wheels require their torch: the bound that the others need would hold for all choices."""
    return item._replace(indexes=tuple(index for index in item.indexes if index.declares))


def _wanted(session: Session) -> list[Extension]:
    """What the table has of what is named, in a project that takes its PyTorch packages from backends' indexes."""
    project, table = session.project, cuda_extensions.table(session.env)
    own = {source.package for source in project.sources if source.backend is None}
    if session.is_script or session.frozen or any(map(project.is_pinned, own)):
        return []
    have = {source.package for source in project.sources}
    found = {named_by(text) or "": text for text in session.line.positionals}
    new = [name for name in found if name in table.packages.keys() - have and not project.is_pinned(name)]
    return [table.packages[name]._replace(text=found[name]) for name in new]


def _backend(session: Session, requested: Sequence[Requested]) -> Backend | None:
    wanted = session.wanted([item.text for item in requested], here=True)
    pins = () if wanted.insists else pins_of(session)
    return (pins[0].backend if pins else None) or session.backend_for(wanted)


def _backends(decision: Decision, choice: Choice | None) -> list[Backend]:
    """The backend that was decided on; for no choice, then the others that would run here, as the choice ranks them."""
    if decision.backend is None:
        return []
    accepted = [] if choice else [row.backend for row in decision.candidates if row.accepted]
    family = [backend for backend in accepted if backend.family == decision.backend.family]  # never a silent CPU build
    return list(dict.fromkeys([decision.backend, *family]))


def _take(session: Session, requested: Sequence[Requested], match: Match, choice: Choice | None) -> int:
    project, base, file = session.project, session.index_base, session.file()
    packages, pins = tuple(dict.fromkeys(item.package for item in requested)), pins_of(session)
    if choice is None and pins and all(one.backend == match.backend for one in pins):
        pin.like(file, project, packages, pins)
    elif choice is None:
        pin.to(file, project, packages, match.decision, base)
    extensions.take(file, project, match.found, match.backend, match.torch, base, choice)
    rows = [
        f"{item.package} {item.version.partition('+')[0]} from {item.index.located(match.backend, match.torch, base)}"
        for item in match.found
    ]
    where = f"into {choice.target}" if choice else decision_line(match.decision)
    with session.transaction() as tx:
        tx.say(f"{', '.join(rows)}, built for torch {match.torch}: {where}")
        tx.warn(*(() if choice else match.decision.warnings))
        before = content(session.required_site.lock)
        session.edit(tx, file)
        tx.uv(*words_with(session, requested, match.decision))
        follow_and_sync(session, tx, before)
    return tx.code
