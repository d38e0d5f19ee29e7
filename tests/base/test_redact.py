"""Passwords in URLs are not shown."""

from __future__ import annotations

import pytest

from mailfleet.base.redact import without_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:s3cret@db.example/mail", "postgresql://ann:***@db.example/mail"),
        (
            "cannot reach postgresql://ann:p%40ss:w@db:5432/mail now",
            "cannot reach postgresql://ann:***@db:5432/mail now",
        ),
        ("postgresql://:s3cret@db/mail", "postgresql://:***@db/mail"),
        ("postgresql://ann:a@b@db/mail", "postgresql://ann:***@db/mail"),
        ("postgresql:///mail?host=/run&password=s3cret&user=a", "postgresql:///mail?host=/run&password=***&user=a"),
        ("https://example.org:8025/a", "https://example.org:8025/a"),
        ("ann@example.org", "ann@example.org"),
    ],
)
def test_only_the_password_is_taken_out(text: str, shown: str) -> None:
    assert without_passwords(text) == shown
