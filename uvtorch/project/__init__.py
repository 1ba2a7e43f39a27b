"""What a project's files say about PyTorch, and edits of them.

| module | job |
| --- | --- |
| `model` | the values |
| `indexes` | package indexes, and whose builds they serve |
| `choices` | `Project`: which extras and groups choose a backend, and how uv is told of one |
| `tables` | the tables of pyproject.toml (and of the workspace's root) -> `Project` |
| `pyproject`, `document`, `script` | edits of it, and of a script's metadata |
| `lock` | uv.lock: PyTorch packages and where they came from |
| `workspace` | which files a command works on |
"""

from uvtorch.markers import Environment
from uvtorch.project.choices import Project
from uvtorch.project.indexes import Index
from uvtorch.project.model import Choice, Config, Item, Requirement, Source, Target
from uvtorch.project.tables import read

__all__ = ["Choice", "Config", "Environment", "Index", "Item", "Project", "Requirement", "Source", "Target", "read"]
