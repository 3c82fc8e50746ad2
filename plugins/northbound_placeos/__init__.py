"""The ``placeos`` source: a PlaceOS installation, read from its Redis and PostgreSQL."""
