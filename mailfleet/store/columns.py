"""What the tables of the schema are made of, and the metadata that all of them are in."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, Text, text

metadata = MetaData()  # what is the same on every engine

BIG = BigInteger().with_variant(Integer, "sqlite")


def id_column(*, counted: bool = False) -> Column[int]:
    """The key of a table; ``counted`` lets the database give the numbers."""
    return Column("id", BIG, primary_key=True, autoincrement=counted)


def int_column(name: str, default: int | None = None) -> Column[int]:
    """A number that is always there."""
    return Column(name, BIG, nullable=False, server_default=None if default is None else text(str(default)))


def text_column(name: str, default: str | None = None) -> Column[str]:
    """Text that is always there, empty where there is nothing to say."""
    return Column(name, Text, nullable=False, server_default=None if default is None else text(f"'{default}'"))


def key_column(name: str) -> Column[int]:
    """A number that is part of a key of several columns."""
    return Column(name, BIG, primary_key=True, autoincrement=False)


def key_text(name: str) -> Column[str]:
    """Text that is part of a key of several columns."""
    return Column(name, Text, primary_key=True)
