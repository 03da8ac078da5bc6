"""The tables of the log."""

from typing import Final

from sqlalchemy import (
    BINARY,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = ["EVENTS", "FORGOTTEN", "FORMAT", "FORMAT_VERSION", "METADATA", "REFUSED"]

FORMAT_VERSION: Final = 1

METADATA: Final = MetaData()

FORMAT: Final = Table("mmrec_events_format", METADATA, Column("version", Integer, primary_key=True))
"""One row: the version of these tables."""

EVENTS: Final = Table(
    "mmrec_events",
    METADATA,
    # The order of arrival; never used twice, even when the newest rows are forgotten.
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("id", LargeBinary(16).with_variant(BINARY(16), "mysql", "mariadb"), nullable=False),
    Column("user", String(512), nullable=False),
    Column("item", String(512), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("time", BigInteger, nullable=False),  # microseconds since 1970 in UTC: the same number in every database
    Column("value", Double),
    Column("context", Text),
    sqlite_autoincrement=True,
)
"""The events, one a row."""

Index("mmrec_events_id", EVENTS.c.id, unique=True)
# A person's newest events are neighbours here, whatever the size of the log.
Index("mmrec_events_past", EVENTS.c.user, EVENTS.c.time, EVENTS.c.seq)

REFUSED: Final = Table(
    "mmrec_events_refused",
    METADATA,
    Column("source", String(1024), nullable=False, index=True),
    Column("row", BigInteger, nullable=False),
    Column("column", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("user", String(512), index=True),
    Column("count", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""Rows of sources that are no events, with the reason of each."""

FORGOTTEN: Final = Table(
    "mmrec_events_forgotten",
    METADATA,
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
"""One row for each time that someone was forgotten, without whom: what was counted before is to be counted again."""
