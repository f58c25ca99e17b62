"""The description of the REST surface, as tables. May import protocols."""
