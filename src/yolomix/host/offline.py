"""No network, no waiting: what Ultralytics looks up by itself is switched off for this process when it cannot work."""

from __future__ import annotations

import os
import socket
import sys
import threading

from yolomix.host.streams import output_to

PATIENCE = 2.0  # seconds for one name to be looked up


def prepare() -> bool:
    """Tell Ultralytics, before it is imported, that it is offline if it is; returns whether it is.

    In CI (the variable CI is set) it is taken to be. What the user has set in YOLO_OFFLINE and YOLO_AUTOINSTALL stays.
    """
    if "YOLO_OFFLINE" not in os.environ and (in_ci() or not reachable()):
        os.environ["YOLO_OFFLINE"] = "true"
    offline = switched_off()
    if offline:
        os.environ.setdefault("YOLO_AUTOINSTALL", "false")
        with output_to(sys.stderr):  # Ultralytics greets when it is imported for the first time
            from yolomix.host import entry

            entry.no_lookups()
    return offline


def switched_off() -> bool:
    """Whether Ultralytics is told to look nothing up.

    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, YOLO_OFFLINE="True"):
    ...     switched_off()
    True
    """
    return os.environ.get("YOLO_OFFLINE", "").lower() in ("true", "1")


def in_ci() -> bool:
    """Whether this runs in continuous integration.

    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, CI="true"):
    ...     in_ci()
    True
    """
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def reachable() -> bool:
    """Whether a name on the internet can be looked up within ``PATIENCE``; a lookup itself may take minutes."""
    found: list[object] = []
    # In a thread, since a lookup cannot be given a time limit; a daemon, so that the process may end before it.
    lookup = threading.Thread(target=lambda: found.extend(_addresses("one.one.one.one")), daemon=True)
    lookup.start()
    lookup.join(PATIENCE)
    return bool(found)


def _addresses(name: str) -> list[object]:
    try:
        return [*socket.getaddrinfo(name, 443)]
    except OSError:
        return []
