"""Class activation maps in JAX."""
