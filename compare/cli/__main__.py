"""`python -m compare.cli` is `dmft`."""

import sys

from compare.cli import main

sys.exit(main())
