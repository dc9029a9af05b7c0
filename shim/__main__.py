"""`python -m shim` is run-shim."""

import sys

from shim.cli import main

sys.exit(main())
