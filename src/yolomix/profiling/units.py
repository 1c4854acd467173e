"""Large numbers, short."""


def giga(operations: int) -> str:
    """Billions.

    >>> giga(14_087_673_600), giga(0)
    ('14.09', '-')
    """
    return f"{operations / 1e9:.2f}" if operations >= 5e6 else "-" if not operations else f"{operations / 1e9:.4f}"


def millions(parameters: int) -> str:
    """A number of parameters, short.

    >>> millions(2_801_488), millions(464)
    ('2.80 M', '464')
    """
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters:,}"
