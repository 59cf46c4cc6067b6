"""The theory run backwards: parameters of measured curves."""
