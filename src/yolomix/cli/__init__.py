"""``yolomix VERB key=value``: the syntax of ``yolo``, with our models, blocks and sample dataset known.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
A failure is one clear message; ``--debug`` or ``YOLOMIX_DEBUG=1`` shows where it came from.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from yolomix.cli import completion
from yolomix.cli.answer import write
from yolomix.cli.pages import page
from yolomix.cli.request import Request, UsageError, read
from yolomix.cli.verbs import VERBS
from yolomix.host import offline
from yolomix.host.streams import open_closed, output_to, own_log_to_stderr

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
LONG = 8  # lines of an error that are shown; of a longer one only the first is


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    >>> main(["version"])
    0.1.0
    0

    Args:
        argv: the words after ``yolomix``; None takes those of this process.
    """
    words = [*(sys.argv[1:] if argv is None else argv)]
    open_closed()
    try:
        if words[:1] == [completion.ASKED] and len(words) > 2:
            completion.answer(*words[1:])
            return DONE
        with own_log_to_stderr():
            return _carry_out(read(words, VERBS))
    except UsageError as error:
        return _failed(error, words, USAGE)
    except KeyboardInterrupt as error:
        return _failed(error, words, INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as in `yolomix models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001, the last place where an error can become a message
        return _failed(error, words, FAILED)


def _carry_out(request: Request) -> int:
    if request.verb == "help":
        answer = page(request.about)
    else:
        # Ultralytics prints wherever it likes, and stdout is for the answer alone.
        with output_to(sys.stderr):
            _bring(request.imports)
            answer = VERBS[request.verb].run(request.words)
    write(answer, request.json)
    if answer.fault:
        raise RuntimeError(answer.fault)
    return DONE


def _bring(modules: Sequence[str]) -> None:
    """Import what ``import=`` names; it may import Ultralytics, which has to know whether it is offline."""
    if modules:
        offline.prepare()
        from yolomix.nn import origins

        for module in modules:
            origins.bring(module)


def _failed(error: BaseException, words: Sequence[str], code: int) -> int:
    """Say on stderr what went wrong, and with ``--debug`` also where."""
    if "--debug" in words or os.environ.get("YOLOMIX_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    elif isinstance(error, KeyboardInterrupt):
        sys.stderr.write("yolomix: interrupted\n")
    else:
        sys.stderr.write(f"yolomix: {_message(error)}\n")
    return code


def _message(error: BaseException) -> str:
    """An error's text; of a long one the first line, with the way to the rest.

    >>> _message(KeyError("no block 'MLLA'"))
    "no block 'MLLA'"
    """
    if isinstance(error, ModuleNotFoundError):
        from yolomix.cli import missing  # only now: it reads what is installed

        return missing.advice(error)
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return f"{type(error).__name__}; YOLOMIX_DEBUG=1 shows where"
    if isinstance(error, KeyError):  # its own text has quotes around it
        lines = [str(error.args[0])]
    if len(lines) > LONG:
        return f"{lines[0]} (YOLOMIX_DEBUG=1 shows more)"
    return "\n  ".join(lines)
