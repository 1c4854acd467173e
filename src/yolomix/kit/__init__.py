"""A folder that runs an exported detector without PyTorch: the file, its settings, a script and a page."""
