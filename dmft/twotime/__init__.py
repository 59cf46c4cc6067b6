"""The two-time machine: what every engine of the theory is solved by."""
