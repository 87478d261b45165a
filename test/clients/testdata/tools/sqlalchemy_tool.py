"""SQLAlchemy with no option set but the driver: its dialect's first questions and its reflection, pool_pre_ping, two phases."""

import asyncio
import os
import sys
from decimal import Decimal

import sqlalchemy as sa

ACCOUNT = int(os.environ.get("ACCOUNT", "1"))
driver, start = sys.argv[1], sys.argv[2:] == ["start"]


def work(conn):
    """work is what an application does with one connection, synchronous or not."""
    assert conn.execute(sa.text("SELECT 1")).scalar() == 1
    if start:
        return
    inspector = sa.inspect(conn)
    assert inspector.get_table_names() == [] and inspector.get_view_names() == [], inspector.get_table_names()
    assert inspector.default_schema_name == "public" and "public" in inspector.get_schema_names()
    assert not inspector.has_table("account")
    metadata = sa.MetaData()
    metadata.reflect(conn)
    assert not metadata.tables
    routines = conn.execute(sa.text("SELECT routine_name FROM information_schema.routines WHERE routine_name = :name"), {"name": "deposit"})
    assert [r[0] for r in routines] == ["deposit"]
    conn.execute(sa.text("CALL deposit(:a, :n)"), {"a": ACCOUNT, "n": Decimal("1.5")})
    with conn.begin_nested():
        conn.execute(sa.text("CALL deposit(:a, :n)"), {"a": ACCOUNT, "n": 1})
    nested = conn.begin_nested()
    conn.execute(sa.text("CALL deposit(:a, :n)"), {"a": ACCOUNT, "n": 100})
    nested.rollback()
    balance = sa.func.balance(ACCOUNT)
    assert conn.execute(sa.select(balance)).scalar() == Decimal("2.5")
    assert conn.execute(sa.text("SELECT * FROM balance(:a)"), {"a": ACCOUNT}).scalar() == Decimal("2.5")


def synchronous():
    engine = sa.create_engine(f"postgresql+{driver}://", pool_pre_ping=True, future=True)
    with engine.begin() as conn:
        work(conn)
    if start:
        return
    for _ in range(3):
        with engine.connect() as conn:  # checked before it is lent
            assert conn.execute(sa.text("SELECT * FROM balance(:a)"), {"a": ACCOUNT}).scalar() == Decimal("2.5")
    with engine.connect() as conn:
        two = conn.begin_twophase()
        conn.execute(sa.text("CALL deposit(:a, 10)"), {"a": ACCOUNT})
        two.prepare()
        two.commit()
    with engine.connect() as conn:
        two = conn.begin_twophase()
        conn.execute(sa.text("CALL deposit(:a, 10)"), {"a": ACCOUNT})
        two.prepare()
        with engine.connect() as other:
            assert two.xid in other.recover_twophase()
        two.rollback()
    with engine.connect() as conn:
        assert conn.execute(sa.text("SELECT * FROM balance(:a)"), {"a": ACCOUNT}).scalar() == Decimal("12.5")


async def asynchronous():
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(f"postgresql+{driver}://", pool_pre_ping=True)
    async with engine.begin() as conn:
        await conn.run_sync(work)
    if not start:
        async with engine.connect() as conn:
            assert (await conn.execute(sa.text("SELECT * FROM balance(:a)"), {"a": ACCOUNT})).scalar() == Decimal("2.5")
    await engine.dispose()


if driver == "asyncpg":
    asyncio.run(asynchronous())
else:
    synchronous()
