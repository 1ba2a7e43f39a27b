"""Say which build was shipped."""

import torch

print(torch.__version__, "GPU" if torch.cuda.is_available() else "CPU")
