"""Faults made on purpose under load: `python -m tests.faults` runs all, `python -m tests.faults.NAME` one."""
