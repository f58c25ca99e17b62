"""`solo size`: how many replicas a load needs, by simulating the coalescer with the plan's times."""
