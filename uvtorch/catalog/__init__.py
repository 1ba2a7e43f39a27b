"""The catalog: PyTorch releases, backends, kernels and drivers, as data with its sources."""
