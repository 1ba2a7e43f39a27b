"""What is wrong with a project's PyTorch packages, by its files and uv's answers; docs/doctor.md has the codes."""
