"""Denoisers, samplers, score distillation and image metrics."""
