"""Which explanation is right: one metric a function, pure, of maps and of what they are held against."""
