"""The command line: results on stdout, the rest on stderr, exit codes, clear words, and no waiting for a network."""
