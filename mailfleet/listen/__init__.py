"""Entrances: SMTP submission and the HTTP API. They write only through ``engine``."""
