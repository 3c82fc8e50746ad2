"""Measures the budgets of the design beside the peers, in one run on one machine."""
