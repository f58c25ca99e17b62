"""`solo deploy`: a changed config applied to a server that runs, watched until every model answers."""
