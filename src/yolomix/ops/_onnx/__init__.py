"""ONNX graphs: what writes nodes, the scan that operators share, and what replaces marked nodes. Needs ``onnx``."""
