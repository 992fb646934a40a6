"""Weights: where they come from, reading them, and turning them into parameters."""
