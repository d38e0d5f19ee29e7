"""The control room: thin views, templates and static files."""
