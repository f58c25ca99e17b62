"""How a plan is made: samples, verification, timing, selection; `deployments.planning.plan` joins them."""
