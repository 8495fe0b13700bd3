"""Mixed-type tables: reading, checking, encoding and writing them, and the metrics of fair synthetic data."""
