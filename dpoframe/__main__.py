"""`python -m dpoframe`: the same as the console script."""

from __future__ import annotations

import sys

from dpoframe.cli import main

sys.exit(main())
