"""HTTP, configuration and composition of keras-solo on Ray Serve."""
