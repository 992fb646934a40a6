"""Decoders of image files: which kinds there are, and how each becomes strips of 8-bit RGB."""
