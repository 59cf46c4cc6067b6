"""Pictures of phase diagrams: maps over two fields, curves over one, every point in a panel."""
