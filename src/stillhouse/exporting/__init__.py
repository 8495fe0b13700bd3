"""A run's model as files that other tools load, checked against the original on real inputs."""
