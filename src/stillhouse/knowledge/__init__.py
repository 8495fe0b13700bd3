"""Entities, normalisation, relation candidates and the graph store."""
