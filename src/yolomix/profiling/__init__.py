"""What a model costs: operations by formula, latency and memory by one protocol. See :func:`yolomix.profile`."""
