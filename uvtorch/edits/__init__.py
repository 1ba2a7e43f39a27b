"""What is written into a pyproject.toml: pins, backend choices, indexes of CUDA extensions. Values in, edits out."""
