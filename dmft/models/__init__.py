"""What can be asked: models, their activations and teachers, units. Free of jax where it can be."""
