"""`uvtorch sync|run|export --auto` and `lock --torch-backend`: the build that fits this machine."""

import os
from contextlib import suppress

from uvtorch import cache, files
from uvtorch.argv import is_set
from uvtorch.backend import Backend
from uvtorch.choose import rank_choices
from uvtorch.errors import NoBuild, UsageError
from uvtorch.project.script import script_block
from uvtorch.requirement import without_local
from uvtorch.session import Session, Wanted
from uvtorch.steps import choices
from uvtorch.steps.follow import follow_lock, pin_project
from uvtorch.steps.pins import decide_lowering, pins_of, pins_unsaid, selected_pins
from uvtorch.steps.resolve import left_to_uv, out_of_place, pin_script, put_in_place, reinstalled
from uvtorch.transaction import content, is_read_only


def sync(session: Session) -> int:
    """Run the verb with the build that fits this machine, or that is asked for.

    Where nothing says which build comes, the choice is written, once. A pin stays unless an option asks for another
    backend; one that does not fit is warned of. Of several builds one is selected by options; nothing is edited. All
    else is plain uv. Raises UvtorchError.
    """
    line = session.line
    if script := _script(session):
        session = Session(line, session.env, script)
    if line.verb == "run":
        if line.has("--with", "--with-requirements", "--with-editable"):
            from uvtorch.steps.route import join  # noqa: PLC0415  only `--with` needs it, and it costs 10 ms

            join(session)
        if script is None and (warnings := _runs_as_it_is(session)) is not None:
            return session.hand_over(*warnings)
    wanted = session.wanted()
    auto = wanted.backend or wanted.auto or (line.verb != "lock" and session.project.config.auto)
    if session.sources_off or not auto:
        return session.hand_over()
    if choices.offered(session.workspace):
        return _select(session, wanted)
    return _single(session, wanted)


def _single(session: Session, wanted: Wanted) -> int:
    pins = pins_of(session) or selected_pins(session)
    if wanted.explicit and (not pins or {one.backend for one in pins} != {wanted.backend or _best(session)}):
        return _pin(session, wanted)
    if pins:
        return _keep(session)
    left = _left_to_uv(session)
    return _pin(session, wanted) if left is None else session.hand_over(left)


def _left_to_uv(session: Session) -> str | None:
    """A warning, or "", where something else than pins says which build comes; None: nothing does."""
    if session.outside or pins_unsaid(session):
        return _mismatch(session)
    said = left_to_uv(session)
    session.out.say(*said or ())
    own = [one for one in session.project.sources if one.kind != "index" and session.project.is_pinned(one.package)]
    return None if said is None and not own else ""


def _script(session: Session) -> str | None:
    path = files.script_of_run(session.line, session.env)
    return path if path and script_block(files.text(path) or "") is not None else None


def _runs_as_it_is(session: Session) -> tuple[str, ...] | None:
    """Warnings where no build can be chosen for what `run` is given; None where one can."""
    line = session.line
    if line.has("--no-project", "--no-sync"):
        return ()
    command = "" if line.has("--module", "-m") else "".join(line.positionals[:1])
    origin = "a URL" if command.startswith(("http://", "https://")) else ""
    if command == "-" and (session.site is None or script_block(files.text("-") or "") is not None):
        origin = "standard input"
    if origin and session.wanted() != Wanted():
        return (f"a script from {origin} is run as it is: which PyTorch build it gets is not chosen",)
    return () if origin or session.site is None else None  # uv runs programs outside of projects as well


def _best(session: Session) -> Backend | None:
    requirements = [without_local(text) for text in session.requirements]
    return decide_lowering(session, requirements, None)[0].backend


# Pinned already


def _keep(session: Session) -> int:
    line, warnings = session.line, tuple(filter(None, [_mismatch(session)]))
    if session.is_script and line.verb in ("run", "sync"):
        return session.hand_over(*warnings, options=reinstalled(out_of_place(session)))
    if line.verb in ("run", "export") or session.is_script or line.has("--dry-run") or _fixed(session):
        cache.remember(session, (), (), warnings)
        return session.hand_over(*warnings)
    if session.claim_unread():
        return sync(session)
    with session.transaction() as tx:
        before = content(session.required_site.lock)
        tx.warn(*warnings)
        tx.uv(*line.argv)
        if follow_lock(session, tx, before) and line.verb == "sync":
            tx.uv(*line.argv)
    if tx.code == 0:
        cache.remember(session, (), (), warnings)
    return tx.code


def _mismatch(session: Session) -> str:
    """The warning about a build that does not run here or leaves the GPU idle; empty: it fits."""
    decided = session.outside or selected_pins(session)
    brought = [] if decided else [one.backend for one in pins_unsaid(session)]
    who, backend = (f"a dependency pins torch to {brought[0]}", brought[0]) if brought else _given(session)
    if not (who and (session.packages or session.locked().named("torch"))):
        return ""
    release = choices.locked_release(session.locked(), backend)
    request = session.request(session.requirements)
    option = rank_choices(session.machine, request, (backend,), session.catalog, [release]).options[0]
    if option.fits:
        return ""
    remedy = "; change the index in that dependency" if brought else ""
    with suppress(NoBuild):
        better = None if brought else _best(session)
        if better not in (None, backend):
            remedy = f"; {_use(session, better)} pins it anew"
    return f"{who}, but {choices.clause(option)}{remedy}"


def _given(session: Session) -> tuple[str, Backend | None]:
    """Who says which torch comes here, and its backend (None: PyPI's); empty where that is not known."""
    subject = session.project.origin if session.is_script else "the project"
    projects, place = (session.workspace, *session.projects[1:]), session.machine.platform
    rows = (row for project in projects for row in project.choices_for(place) if row.origin != "pypi")
    if base := next((row for row in rows if row.kind == "base"), None):
        who, backend = f"{subject} pins {base.backend}", base.backend if base.origin == "index" else None
    elif session.outside:
        outside = session.outside[0]
        who, backend = f"{outside.origin} has uv take torch from {outside.url}", outside.backend
    elif session.project.pytorch_packages() or not selected_pins(session):
        return f"{subject} takes torch from PyPI on this platform", None
    else:
        return "", None  # whether torch is installed at all, a sibling's extra says
    return who if backend else "", backend


def _use(session: Session, backend: object) -> str:
    script = f" --script {session.project.origin}" if session.is_script else ""
    return f"`uvtorch torch use {backend}{script}`"


# Not pinned


def _pin(session: Session, wanted: Wanted) -> int:
    if session.claim_unread():  # somebody changed the project in the meantime
        return sync(session)
    _check_free(session, wanted)
    if session.is_script:
        return _pin_script(session, wanted)
    line, fixed = session.line, _fixed(session)
    command = line.argv if line.verb == "lock" else None
    lock = not fixed and bool(command or wanted.backend or not os.path.exists(session.required_site.lock))
    with session.transaction() as tx:
        if not pin_project(session, tx, wanted, command, lock=lock) and pins_unsaid(session):
            tx.warn(_mismatch(session))
        if line.verb == "run":
            # Whether the program fails is no reason to undo the pins; whether uv can lock them is.
            tx.become(line.argv)
        elif command is None or fixed:
            tx.uv(*line.argv)
    return tx.code


def _fixed(session: Session) -> str | None:
    given = [name for name in ("--locked", "--frozen", "--check", "--check-exists") if session.line.has(name)]
    given += [name for name in ("UV_LOCKED", "UV_FROZEN") if is_set(session.env, name)]
    return given[0] if given else None


def _check_free(session: Session, wanted: Wanted) -> None:
    fixed = _fixed(session)
    if fixed and (session.packages or (session.locked().named("torch") and not pins_unsaid(session))):
        commit = "" if session.is_script else " and commit both files"
        raise UsageError(
            f"{session.project.origin} has to change for a build that fits, and {fixed} does not allow that",
            f"run {_use(session, session.backend_for(wanted) or 'auto')} once{commit}",
        )


def _pin_script(session: Session, wanted: Wanted) -> int:
    line, name = session.line, session.project.origin
    if not wanted.explicit and is_read_only(session.required_site.manifest.path):
        return session.hand_over(f"{name} is read-only: which PyTorch build it gets is not chosen")
    with session.transaction() as tx:
        packages = pin_script(session, tx, wanted)
        if packages:
            tx.say(f"{name} names its index from now on; {_use(session, 'none')} takes it out")
        if line.verb == "run":
            if packages:
                put_in_place(session, tx, packages, begin=True)
            tx.become(line.argv)
        else:
            tx.uv(*line.with_options(*(reinstalled(packages) if line.verb == "sync" else ())))
    return tx.code


# Several builds to choose from


def _select(session: Session, wanted: Wanted) -> int:
    project, said = session.workspace, choices.options_of(session)
    rows = choices.offered(project)
    if session.line.verb == "lock":  # a lock holds every choice
        return session.hand_over()
    if said.settles(rows):
        extra: tuple[str, ...] = ()
        # By an alias alone (`gpu = ["proj[cu128]"]`) uv 0.13.8 takes PyPI's build: a source binds to its own extra.
        if len(named := said.named(rows)) == 1 and not said.apart:
            extra = () if named[0].target in said.given else choices.selection(project, named[0], said)
        told = f"using {' '.join(extra)} with what stands for it: its index is taken where it is named itself"
        return session.hand_over(said=(told,) if extra else (), options=extra)
    fit = choices.selected(session, wanted, said)
    if fit.best is None:
        return session.hand_over(*fit.warnings)
    option, extra = fit.options[fit.best], choices.selection(project, fit.best, said)
    release = f", torch {option.torch}" if option.torch else ""
    why = f": {option.reason}" if option.fits else ""
    told = f"using {' '.join(extra) or 'the project as it is'} ({choices.build_of(fit.best)}{release}){why}"
    cache.remember(session, extra, (told,), fit.warnings)
    return session.hand_over(*fit.warnings, said=(told,), options=extra)
