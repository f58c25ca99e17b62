"""TensorFlow, imported as a replica imports it: named by the process that replicas are forked from."""

from deployments.device import environment

environment.prepare("auto", log_level=2)
