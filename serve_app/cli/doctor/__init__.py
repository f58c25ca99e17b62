"""`solo doctor`: whether this machine can serve, one module per part of it."""
