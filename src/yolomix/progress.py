"""What a long job says while it works, on stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

INTERVAL = 8.0  # seconds between lines
FIGURES = 27  # characters of a bar and its times; a narrow terminal cuts off what is said behind them

Progress = Callable[[int, int, str], None]  # steps done, steps in all, and what is being done


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """Show progress until the block ends.

    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout), shown("rendering") as progress:
    ...     progress(1, 2, "rendering")
       0 s  rendering

    Args:
        what: is being done first.
    """
    if sys.stderr is None:  # closed by whoever started this process
        yield lambda done, total, what: None
        return
    with _bar(what) if sys.stderr.isatty() else _lines(what) as progress:
        yield progress


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    """A bar that is redrawn all the time, and gone when all is done."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    console = Console(file=sys.stderr)
    room = Column(max_width=max(1, console.width - FIGURES), no_wrap=True)
    text = TextColumn("{task.description}", table_column=room)
    columns = (BarColumn(10), TimeElapsedColumn(), TimeRemainingColumn(), text)
    with Bar(*columns, console=console, redirect_stdout=False, redirect_stderr=False, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


@contextmanager
def _lines(what: str) -> Iterator[Progress]:
    """A line at once and every ``INTERVAL`` seconds, also while one step takes longer than that."""
    stream, started = sys.stderr, time.monotonic()
    state, over = [what], threading.Event()

    def _say() -> None:
        with suppress(OSError, ValueError):  # nobody reads it any more, and the job goes on
            stream.write(f"{time.monotonic() - started:4.0f} s  {state[0]}\n")
            stream.flush()

    def _go_on() -> None:
        while not over.wait(INTERVAL):
            _say()

    def _progress(done: int, total: int, what: str) -> None:
        state[0] = f"{what}, step {done} of {total}" if total > 1 else what

    _say()
    writer = threading.Thread(target=_go_on, daemon=True)
    writer.start()
    try:
        yield _progress
    finally:
        over.set()
        writer.join()
