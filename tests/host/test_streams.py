"""Stdout is for results: what Ultralytics and child processes write goes elsewhere, and comes back."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

from yolomix.host import streams


def test_output_goes_elsewhere_and_comes_back(capfd):
    logger, elsewhere = logging.getLogger("ultralytics"), io.StringIO()
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    try:
        with streams.output_to(elsewhere):
            print("printed")
            logger.warning("logged")
        assert elsewhere.getvalue().startswith("printed\n")
        assert "logged" in elsewhere.getvalue()
        assert handler.stream is sys.stdout
    finally:
        logger.removeHandler(handler)
    capfd.readouterr()
    with streams.children_to_stderr():
        subprocess.run(["echo", "from a child"], check=True)
    subprocess.run(["echo", "afterwards"], check=True)
    assert capfd.readouterr() == ("afterwards\n", "from a child\n")
