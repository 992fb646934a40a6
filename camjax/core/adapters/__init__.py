"""Networks as their users have them, made into the contract: NNX, Linen, Equinox, a bare function. One a file."""
