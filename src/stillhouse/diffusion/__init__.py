"""Denoisers, samplers, score distillation, image data and image metrics."""
