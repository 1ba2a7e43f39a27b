"""`python -m uvtorch`."""

import sys

from uvtorch.cli import main

sys.exit(main())
