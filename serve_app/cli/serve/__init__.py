"""`solo serve`: one config in the foreground, watched until it answers, ended cleanly."""
