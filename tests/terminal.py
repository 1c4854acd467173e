"""A pseudo-terminal of any width, and what is written to it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator


class Terminal:
    """What a process gets as its stdout, and what has come of it.

    Attributes:
        number: a file descriptor to write to.
        name: of the file that another process can open to write to.
        text: what was written, when the terminal is closed.
    """

    def __init__(self, number: int) -> None:
        self.number, self.name, self.text = number, os.ttyname(number), ""


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[Terminal]:
    """Open a terminal; it closes with the block, and whoever writes to it has ended by then."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    opened, read = Terminal(theirs), bytearray()

    def _read() -> None:  # while they write: a terminal holds few characters that nobody reads
        with contextlib.suppress(OSError):  # how Linux says that nobody writes any more
            while more := os.read(ours, 1 << 16):
                read.extend(more)

    reader = threading.Thread(target=_read)
    reader.start()
    try:
        yield opened
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
        opened.text = read.decode().replace("\r\n", "\n")
