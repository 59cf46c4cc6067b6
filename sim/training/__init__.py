"""Training of any system: it knows no network."""
