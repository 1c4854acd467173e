"""Changing the rows of a model without losing its weights, as values: rows, insertion points, alignment, reports.

Nothing here knows Ultralytics, opens a file or builds a model.
"""
