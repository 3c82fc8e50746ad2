"""What must not leave, does not: rules over topic, payload and metadata."""
