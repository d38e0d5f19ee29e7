"""The command line: thin verbs over the running server's HTTP API, except ``serve``, ``sandbox``, ``explain`` and ``settings``."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``mailfleet`` program. Exits with a code of ``mailfleet.cli.frame.ExitCode``."""
    from mailfleet.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a terminal that cannot show a letter shows an escape, not a traceback
            reconfigure(errors="backslashreplace")
    app(prog_name="mailfleet")
