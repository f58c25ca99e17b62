"""Other people's servers, each as its own documentation advises, with a compiled function."""
