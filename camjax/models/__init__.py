"""Networks in Flax NNX, and the registry of their names. Nothing outside this folder imports flax."""
