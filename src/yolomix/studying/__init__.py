"""A study: arms, seeds and datasets, run one process each and compared so that the answer holds."""
