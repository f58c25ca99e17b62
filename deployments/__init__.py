"""Inference without HTTP: loading, planning, coalescing and running Keras models."""
