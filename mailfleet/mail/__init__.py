"""Mail formats, pure: addresses, header fields, MIME, templates, DKIM, DSN, recipient lists. No I/O, no clock."""
