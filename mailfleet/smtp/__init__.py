"""SMTP, client and server, sans-IO: bytes in, events out; states are tables. No sockets, no clock."""
