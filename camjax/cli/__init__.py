"""The command line: words, options, tables and progress at the edge."""
