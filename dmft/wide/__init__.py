"""The wide engine: N = infinity, D and P -> infinity at fixed kappa (THEORY section 4)."""
