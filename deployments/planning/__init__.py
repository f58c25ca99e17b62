"""How a plan is made: samples, verification, timing, selection; `deployments.plan` joins them."""
