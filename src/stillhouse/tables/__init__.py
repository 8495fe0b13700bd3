"""Mixed-type tables, fairness and synthetic-data metrics."""
