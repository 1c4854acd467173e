"""What a model looks at, what it writes into its state, whether a graft was used: one function for every figure.

>>> import yolomix
>>> yolomix.figures.KINDS[:3]
('erf', 'cam', 'attention')

Each takes models and images, and returns a :class:`yolomix.figures.values.Figure`: arrays, and a drawing of them.
"""
