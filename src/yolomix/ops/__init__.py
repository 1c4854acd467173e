"""Operators: tensors in, tensors out. They need torch and nothing else; a backend file imports its own framework."""
