"""Training of networks without a theory: losses, what is watched, the system for the driver."""
