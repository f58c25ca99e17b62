"""TensorFlow, imported as a replica imports it: for a process that replicas are forked from, which asks by this name."""

from deployments.device import environment

environment.prepare("auto", log_level=2)
