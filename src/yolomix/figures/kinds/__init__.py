"""One file for every kind of figure, with a function of its name."""
