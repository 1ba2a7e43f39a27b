"""What a project's files say about PyTorch, and edits of them."""

from uvtorch.project.choices import Project
from uvtorch.project.indexes import Index
from uvtorch.project.model import Choice, Config, Item, Requirement, Source, Target
from uvtorch.project.tables import read
from uvtorch.requirement import Environment

__all__ = ["Choice", "Config", "Environment", "Index", "Item", "Project", "Requirement", "Source", "Target", "read"]
