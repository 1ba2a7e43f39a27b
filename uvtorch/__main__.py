"""`python -m uvtorch`."""

from uvtorch.cli import main

main()
