"""The choice: (machine, request, catalog) -> Decision, with a reason for every candidate. Pure, no I/O.

`evaluate` makes the table: each build of the catalog once, with what keeps it from running here. A build runs if it has
a wheel for the platform and the Python, its index has every package that is asked for, its kernels cover every GPU that
counts, and the driver runs it. Of those that run, the newest torch that the request allows; for that torch, the newest
CUDA major that the driver runs, and within it the highest build that the driver supports natively, else the lowest by
minor-version compatibility. Of ROCm's builds the highest, those with their libraries in the wheel first.

The CPU build is chosen where there is no GPU, and, with a warning, where PyTorch has no build for the GPU at all and
never will (`gpus`). What another release or another driver would make fit is a refusal that names them. The catalog
ends somewhere: a request that admits only releases it does not know is for the indexes to answer (`Decision.ask`,
`after_asking`). What a project already has is judged by the same table (`ranking`).
"""

from uvtorch.choose.compatibility import FAMILY, Judge, labels, platform_name, summary
from uvtorch.choose.decision import Decision, after_asking, choose
from uvtorch.choose.messages import Candidate
from uvtorch.choose.ranking import Option, Ranking, cannot_run, leaves_idle, rank_choices
from uvtorch.choose.request import Request, local_backend, read
from uvtorch.choose.table import Table, evaluate

__all__ = [
    "FAMILY",
    "Candidate",
    "Decision",
    "Judge",
    "Option",
    "Ranking",
    "Request",
    "Table",
    "after_asking",
    "cannot_run",
    "choose",
    "evaluate",
    "labels",
    "leaves_idle",
    "local_backend",
    "platform_name",
    "rank_choices",
    "read",
    "summary",
]
