"""The solvable networks as systems."""
