"""``yolomix VERB key=value``: the syntax of ``yolo``, with our models, blocks and sample dataset known.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
A failure is one clear message; ``--debug`` or ``YOLOMIX_DEBUG=1`` shows where it came from.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace

from yolomix.host.streams import own_log_to_stderr
from yolomix.cli.request import Request, UsageError, read, values
from yolomix.cli.verbs import VERBS, overview

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    Args:
        argv: the words after ``yolomix``; None takes those of this process.
    """
    words = [*(sys.argv[1:] if argv is None else argv)]
    try:
        with own_log_to_stderr():
            return _answer(read(words, VERBS))
    except UsageError as error:
        return _failed(error, words, USAGE)
    except KeyboardInterrupt as error:
        return _failed(error, words, INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as in `yolomix models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001, the last place where an error can become a message
        return _failed(error, words, FAILED)


def _answer(request: Request) -> int:
    if request.verb == "help":
        sys.stdout.write(overview() if request.about is None else VERBS[request.about].help())
        return DONE
    verb = VERBS[request.verb]
    if verb.takes is not None:
        request = replace(request, values=values(request, verb.takes))
    verb.load()(request)
    sys.stdout.flush()
    return DONE


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
    """An error's text; of a long one the first line, with the way to the rest."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return f"{type(error).__name__}; YOLOMIX_DEBUG=1 shows where"
    if isinstance(error, KeyError):  # whose text is in quotes
        lines = [str(error.args[0])]
    text = lines[0] if len(lines) > 8 else "\n  ".join(lines)
    return text + (" (YOLOMIX_DEBUG=1 shows more)" if len(lines) > 8 else "")
