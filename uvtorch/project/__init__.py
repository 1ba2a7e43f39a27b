"""What pyproject.toml says about PyTorch: requirements, indexes, pins, backend choices. Pure reading.

| module | job |
| --- | --- |
| `facts` | the values: `Project` and its parts |
| `tables` | the tables of pyproject.toml (and of the workspace's root) -> `Project` |
| `markers` | is a marker true on a described machine |
| `choices` | which extras and groups choose a backend |
| `selection` | what uv must be told to select a choice |
| `lock` | uv.lock: PyTorch packages and where they came from |
"""

from uvtorch.project.facts import Choice, Config, Index, Item, Project, Requirement, Source, Target
from uvtorch.project.markers import Environment
from uvtorch.project.tables import read

__all__ = [
    "Choice",
    "Config",
    "Environment",
    "Index",
    "Item",
    "Project",
    "Requirement",
    "Source",
    "Target",
    "read",
]
