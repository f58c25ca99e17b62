"""Requests that no client would send, by the hundred thousand, against a real server: `make hostile`."""
