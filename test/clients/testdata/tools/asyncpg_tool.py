"""asyncpg with no option set; its pool, transactions, prepared statements, cursors and two phases."""

import asyncio
import os
import sys
from decimal import Decimal

import asyncpg

ACCOUNT = int(os.environ.get("ACCOUNT", "1"))


async def main():
    conn = await asyncpg.connect()
    assert await conn.fetchval("SELECT 1") == 1
    if sys.argv[1:] == ["start"]:
        await conn.close()
        return

    names = [r[0] for r in await conn.fetch("SELECT proname FROM pg_catalog.pg_proc WHERE proname = ANY($1::text[]) ORDER BY 1", ["deposit", "balance"])]
    assert names == ["balance", "deposit"], names
    await conn.execute("CALL deposit($1, $2)", ACCOUNT, Decimal("1.5"))
    assert await conn.fetchval("SELECT * FROM balance($1)", ACCOUNT) == Decimal("1.5")

    async with conn.transaction(isolation="serializable"):
        await conn.execute("CALL deposit($1, 1)", ACCOUNT)
        try:
            async with conn.transaction():
                await conn.execute("CALL deposit($1, 100)", ACCOUNT)
                await conn.execute("CALL deposit(-1, 100)")
        except asyncpg.NoDataFoundError:
            pass
        async for record in conn.cursor("SELECT * FROM balance($1)", ACCOUNT):  # a portal, fetched in parts
            assert record[0] == Decimal("2.5"), record
    statement = await conn.prepare("SELECT * FROM balance($1)")
    for _ in range(3):
        assert await statement.fetchval(ACCOUNT) == Decimal("2.5")

    # Two phases, the second on another connection.
    gid = f"asyncpg {ACCOUNT}"
    await conn.execute("BEGIN")
    await conn.execute("CALL deposit($1, 10)", ACCOUNT)
    await conn.execute(f"PREPARE TRANSACTION '{gid}'")
    await conn.close()

    # A pool resets each connection that comes back.
    async with asyncpg.create_pool(min_size=1, max_size=3) as pool:
        assert [r["gid"] for r in await pool.fetch("SELECT gid FROM pg_prepared_xacts WHERE gid = $1", gid)] == [gid]
        await pool.execute(f"COMMIT PREPARED '{gid}'")
        await asyncio.gather(*(pool.execute("CALL deposit($1, $2)", ACCOUNT, 1) for _ in range(10)))
        assert await pool.fetchval("SELECT * FROM balance($1)", ACCOUNT) == Decimal("22.5")


asyncio.run(main())
