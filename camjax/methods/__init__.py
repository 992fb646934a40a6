"""The methods: one a file, pure functions from what a network computed to maps."""
