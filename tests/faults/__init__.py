"""Faults on purpose: what yolomix does with damaged input, full disks, kills and other software beside it.

Every kind of fault is a file here, with one :class:`tests.faults.kind.Kind`. ``make faults MINUTES=10`` runs them all
and writes ``docs/reliability.md``; ``tests/faults/test_faults.py`` runs a small fixed part of each.
"""
