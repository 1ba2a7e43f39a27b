# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Say which PyTorch this is, and which GPUs it can use."""

import torch

print(torch.__version__)
for number in range(torch.cuda.device_count()):
    print(torch.cuda.get_device_name(number))
