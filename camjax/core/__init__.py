"""The contract: what a network is, its layers by name, and how its programs are run."""
