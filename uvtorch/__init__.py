"""uv with a sense of the hardware: the PyTorch build that runs here, as plain uv configuration."""

__version__ = "0.1.0"
