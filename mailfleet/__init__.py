"""Mailfleet: send your own mail from your own servers. docs/overview.md says which folder holds what."""

__version__ = "0.1.0"
