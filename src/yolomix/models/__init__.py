"""The model zoo: YAML files that Ultralytics reads, and where to find them."""
