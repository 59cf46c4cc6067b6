"""The interactive report: one HTML file."""
