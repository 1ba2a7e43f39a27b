"""Which extras and dependency groups choose a build of PyTorch. Pure."""


from uvtorch.project.markers import Environment, holds
from uvtorch.project.tables import Choice, Project, Source, Target


def stated(project: Project) -> tuple[Choice, ...]:
    """The choices that sources state, whatever the platform: a row for each (name, backend)."""
    return ()


def on_platform(project: Project, environment: Environment) -> tuple[Choice, ...]:
    return ()
