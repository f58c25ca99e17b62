"""Counters to Prometheus, stages to spans, load to autoscaling. May import autoscaling and deployments."""
