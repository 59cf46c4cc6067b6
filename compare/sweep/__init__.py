"""Sweeps: points, where they are computed and kept, phase diagrams."""
