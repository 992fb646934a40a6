"""From uint8 pictures to explanations: the compiled function, picture files, figures and arrays on disk."""
