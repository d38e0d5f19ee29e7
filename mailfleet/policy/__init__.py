"""Decisions, pure: (state, now) -> verdict. Classification, retry, lifecycle, suppression. No I/O, no clock."""
