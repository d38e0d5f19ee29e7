"""The composition root: builds objects, starts roles. ``serve`` is all that the command line needs of it."""

from mailfleet.app.supervisor import serve

__all__ = ["serve"]
