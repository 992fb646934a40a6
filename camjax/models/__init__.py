"""Networks in Flax NNX, and the registry of their names."""
