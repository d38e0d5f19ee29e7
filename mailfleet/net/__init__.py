"""The only sockets: resolver, SMTP client and server drivers, TLS."""
