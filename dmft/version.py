"""The version of the package, and of its numbers."""

import time

__version__ = "0.1.0"

#: When the packages were read. A file that changed later is not the code that runs.
IMPORTED = time.time()

#: Raised by hand whenever a number of the theory or of the simulation changes: stored points are then computed anew.
NUMERICS = 1
