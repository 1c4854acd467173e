"""What we call in Ultralytics: this folder and ``yolomix.hooks`` are the only ones that import it."""
