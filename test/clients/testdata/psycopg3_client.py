"""psycopg 3: typed arguments in both formats, pipelines, transaction blocks, tpc_*, cancel."""

import datetime
import os
import threading
import uuid
from decimal import Decimal

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

ACCOUNT = int(os.environ["ACCOUNT"])
THREE = f"three {ACCOUNT}"


def connect(**kwargs):
    return psycopg.connect(**kwargs)


def raises(error, what, *args):
    try:
        what(*args)
    except error as e:
        return e
    raise AssertionError(f"no {error.__name__}")


def balance():
    with connect() as conn:
        return conn.execute("CALL balance(%s)", [ACCOUNT]).fetchone()[0]


conn = connect()

# Arguments of every kind, as text and in binary; the fifth use of a statement prepares it.
kinds = [True, -7, Decimal("1.50"), 0.1, "back\\slash, 'quote' and ü", b"\x00\xff\\", uuid.UUID(int=1), datetime.date(2024, 2, 29),
         datetime.datetime(2024, 2, 29, 12, 30, 1, 5, datetime.timezone.utc), {"k": [1, None]}, [1, -2, 3]]
for mark in "sbt":
    for binary in [False, True] * 4:
        sent = [Jsonb(k) if isinstance(k, dict) else k for k in kinds]
        call = "CALL kinds(" + ", ".join([f"%{mark}"] * len(kinds)) + ")"
        assert conn.execute(call, sent, binary=binary).fetchone() == tuple(kinds) + ("nothing",)
assert conn.execute("CALL kinds(" + "%s, " * 11 + "w => %s)", [None] * 12).fetchone() == (None,) * 12
conn.commit()
cur = conn.cursor()
cur.executemany("CALL deposit(%s, %s)", [(ACCOUNT, Decimal("0.25")), (ACCOUNT, 1)])
conn.commit()
assert balance() == Decimal("1.25")

# Errors.
e = raises(psycopg.errors.NoDataFound, conn.execute, "CALL deposit(-1, 1)")
assert e.diag.message_primary == "no such account"
raises(psycopg.errors.InFailedSqlTransaction, conn.execute, "CALL balance(1)")
conn.rollback()
raises(psycopg.errors.UndefinedFunction, conn.execute, "CALL deposit(%s, %s)", [ACCOUNT, 0.5])
conn.rollback()

# Transaction blocks nest by savepoints.
with conn.transaction():
    conn.execute("CALL deposit(%s, 1)", [ACCOUNT])
    try:
        with conn.transaction("inner"):
            conn.execute("CALL deposit(%s, 100)", [ACCOUNT])
            conn.execute("CALL deposit(-1, 100)")
    except psycopg.errors.NoDataFound:
        pass
    with conn.transaction():
        conn.execute("CALL deposit(%s, 1)", [ACCOUNT])
    with conn.transaction() as inner:
        conn.execute("CALL deposit(%s, 100)", [ACCOUNT])
        raise psycopg.Rollback(inner)
assert balance() == Decimal("3.25")
conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
conn.read_only = True
raises(psycopg.errors.ReadOnlySqlTransaction, conn.execute, "CALL deposit(%s, 1)", [ACCOUNT])
conn.rollback()
conn.isolation_level = conn.read_only = None

# A pipeline: one round trip, and an error skips what is behind it up to the next Sync.
with conn.pipeline() as pipeline:
    for _ in range(5):
        conn.execute("CALL deposit(%s, 1)", [ACCOUNT])
    row = conn.execute("CALL balance(%s)", [ACCOUNT])
    pipeline.sync()
    assert row.fetchone() == (Decimal("8.25"),)
conn.commit()


def broken():
    with conn.pipeline():
        conn.execute("CALL deposit(%s, 1)", [ACCOUNT])
        conn.execute("CALL deposit(-1, 1)")
        conn.execute("CALL deposit(%s, 1)", [ACCOUNT])


raises(psycopg.errors.NoDataFound, broken)
conn.rollback()
assert balance() == Decimal("8.25")

# Two phases.
def prepared(gtrid):
    conn = connect()
    xid = conn.xid(7, gtrid, "b")
    conn.tpc_begin(xid)
    conn.execute("CALL deposit(%s, 10)", [ACCOUNT])
    conn.tpc_prepare()
    return conn, xid


first, _ = prepared(f"one {ACCOUNT}")
first.tpc_commit()
second, _ = prepared(f"two {ACCOUNT}")
second.tpc_rollback()
third, xid = prepared(THREE)
third.close()
found = [x for x in conn.tpc_recover() if x.gtrid == THREE]
assert len(found) == 1 and found[0].prepared.tzinfo and found[0].database == "shop", found
assert conn.info.transaction_status == TransactionStatus.IDLE
conn.tpc_rollback(found[0])
raises(psycopg.errors.UndefinedObject, conn.tpc_rollback, xid)
failed = connect()
failed.tpc_begin(failed.xid(7, f"failed {ACCOUNT}", ""))
raises(psycopg.errors.NoDataFound, failed.execute, "CALL deposit(-1, 1)")
raises(psycopg.errors.InFailedSqlTransaction, failed.tpc_prepare)  # no vote
raises(psycopg.errors.UndefinedObject, failed.tpc_rollback)  # nothing is left of it
failed.close()
assert balance() == Decimal("18.25")

# Cancel.
alarm = threading.Timer(0.2, conn.cancel)
alarm.start()
raises(psycopg.errors.QueryCanceled, conn.execute, "CALL nap(%s)", [60.0])
alarm.join()
conn.rollback()
assert balance() == Decimal("18.25")
conn.close()
