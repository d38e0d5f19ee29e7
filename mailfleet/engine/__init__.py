"""Verbs: the only layer that decides and does. Edges arrive as constructor arguments from ``app``."""
