"""The committee engine: the mean-field theory of a network of finite width (THEORY section 8), for `dmft.solve`."""
