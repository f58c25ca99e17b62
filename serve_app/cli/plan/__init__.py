"""`solo plan`: which way of executing is fastest for one model, as a table, a plot and lines for a config."""
