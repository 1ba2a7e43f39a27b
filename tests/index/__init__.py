"""PyTorch's indexes and a default index on this machine, and projects that use them: the real uv without a network."""
