"""HAProxy, the front door: its rules, its environment and ports, and its end. May import deployments.errors."""
