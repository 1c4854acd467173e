"""Which models run where: every model in every format and precision, exported and verified in a process of its own."""
