"""`uvtorch remove`: PyTorch packages with what only they needed, out of every backend choice; all else as uv has it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from uvtorch.argv import CommandLine
from uvtorch.packages import extension, normalize
from uvtorch.plan import Plan, hand_over
from uvtorch.verbs.deciding import UvFinder, edited, open_project
from uvtorch.verbs.transitive import compile_watched

if TYPE_CHECKING:
    from uvtorch.edit import Operation


def compile_remove(line: CommandLine, env: Mapping[str, str], find_uv: UvFinder) -> Plan:
    """What `remove` comes to: uv's own command, after the edits that uv does not make.

    uv takes a package's sources out with its last requirement. The anchors that uvtorch wrote for it are ours to take
    out, and what was required directly gets one where the packages that stay still need it.
    Raises UvtorchError where the project cannot be read.
    """
    opened = open_project(line, env)
    if opened is None:
        return hand_over(line.argv)  # uv says what is missing
    project = opened.project
    gone = {normalize(text) for text in line.positionals}
    extended: list[Operation] = []
    if any(extension(name) for name in gone):
        from uvtorch.verbs.extending import abandoned

        extended = abandoned(project, env, gone)
    if not any(project.is_pinned(name) for name in gone):
        return compile_watched(line, env, find_uv)._replace(edits=edited(opened, extended))
    if project.selectable():
        from uvtorch.verbs.several import compile_remove as compile_several

        return compile_several(line, env, opened)
    from uvtorch import pinning
    from uvtorch.verbs.several import target_of
    from uvtorch.verbs.transitive import users_of

    names = (*gone, *pinning.anchored(project))
    users = users_of(opened, names, without=gone)
    edits = edited(opened, [*extended, *pinning.without(project, gone, target_of(line), users)])
    if opened.site.manifest.script:
        plan = Plan((tuple(line.argv),), guarded=(opened.site.manifest.path, opened.site.lock))
    else:
        plan = compile_watched(line, env, find_uv)
    return plan._replace(edits=edits, styled=(opened.site.manifest.path,))
