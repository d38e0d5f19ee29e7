"""The operations of HTTP API ``/v1``, one module per noun."""
