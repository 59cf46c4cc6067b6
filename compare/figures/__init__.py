"""Pictures: no physics here."""
