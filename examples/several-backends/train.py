"""Say which build the machine got."""

import torch

print(torch.__version__, "with a GPU" if torch.cuda.is_available() else "on the CPU")
