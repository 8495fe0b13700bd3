"""A local page over a folder of runs: live progress, reports, comparisons, and models to try."""
