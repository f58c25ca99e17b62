"""The ways of executing a prediction: one per file, each a `Candidate`."""
