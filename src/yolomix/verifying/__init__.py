"""``yolomix.verify``: whether an exported file, in its own runtime, gives what the model gives in PyTorch."""
