"""The composition root: builds objects, starts roles. Nothing is imported here: a command that wants a path pays for no server."""
