"""`python -m builder` is `build-site`."""

import sys

from builder.cli import main

sys.exit(main())
