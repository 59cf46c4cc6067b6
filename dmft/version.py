"""The version of the package, and of its numbers."""

__version__ = "0.1.0"

#: Raised by hand whenever a number of the theory or of the simulation changes: stored points are then computed anew.
NUMERICS = 1
