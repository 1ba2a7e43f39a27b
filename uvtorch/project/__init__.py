"""What a project's files say about PyTorch, and edits of them."""

from uvtorch.project.choices import Project
from uvtorch.project.indexes import Index
from uvtorch.project.model import Choice, Source, Target
from uvtorch.project.tables import read
from uvtorch.requirement import Environment

__all__ = ["Choice", "Environment", "Index", "Project", "Source", "Target", "read"]
