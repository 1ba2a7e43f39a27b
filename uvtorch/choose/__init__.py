"""The choice: (machine, request, catalog) -> Decision, with a reason for every candidate. Pure, no I/O.

`evaluate` makes the table: each build of the catalog once, with what keeps it from running here. A build runs if it has
a wheel for the platform and the Python, its index has every package that is asked for, its kernels cover every GPU that
counts, and the driver runs it. Of those that run, the newest torch that the request allows; for that torch, the newest
CUDA major that the driver runs, and within it the highest build that the driver supports natively, else the lowest by
minor-version compatibility. Of ROCm's builds the highest, those with their libraries in the wheel first.

The CPU build is chosen where there is no GPU, and, with a warning, where PyTorch has no build for the GPU at all and
never will (`select`). What another release or another driver would make fit is a refusal that names them. The catalog
ends somewhere: a request that admits only releases it does not know is for the indexes to answer (`Decision.ask`,
`after_asking`). What a project already has is judged by the same table (`rank_choices`).
"""

from uvtorch.choose.decision import Decision, Option, Ranking, cannot_run, choose, leaves_idle, rank_choices
from uvtorch.choose.request import Request, local_backend
from uvtorch.choose.table import evaluate

__all__ = [
    "Decision",
    "Option",
    "Ranking",
    "Request",
    "cannot_run",
    "choose",
    "evaluate",
    "leaves_idle",
    "local_backend",
    "rank_choices",
]
