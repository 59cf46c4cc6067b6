"""Losses from order parameters and the dataset that holds them: all that theory and simulation share."""
