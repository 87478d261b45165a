"""psycopg2: literals of all kinds, errors, savepoints, tpc_*, its pool, cancel."""

import datetime
import os
import threading
import uuid
from decimal import Decimal

import psycopg2.errors
import psycopg2.extras
from psycopg2.extensions import STATUS_PREPARED, TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR
from psycopg2.pool import SimpleConnectionPool

ACCOUNT = int(os.environ["ACCOUNT"])
OTHER = ACCOUNT + 1
THREE = f"three {ACCOUNT}"


def connect():
    return psycopg2.connect("application_name=clients")


def raises(error, what, *args):
    try:
        what(*args)
    except error as e:
        return e
    raise AssertionError(f"no {error.__name__}")


def balance():
    with connect() as conn, conn.cursor() as cur:
        cur.execute("CALL balance(%s)", (ACCOUNT,))
        return cur.fetchone()[0]


conn = connect()
cur = conn.cursor()
assert conn.server_version == 150000 and conn.encoding == "UTF8"

# Arguments of every kind come back as they went.
psycopg2.extras.register_uuid()
kinds = [True, -7, Decimal("1.50"), 0.1, "back\\slash, 'quote' and ü", b"\x00\xff\\", uuid.UUID(int=1), datetime.date(2024, 2, 29),
         datetime.datetime(2024, 2, 29, 12, 30, 1, 5, datetime.timezone.utc), {"k": [1, None]}, [1, -2, 3]]
cur.execute("CALL kinds(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", [psycopg2.extras.Json(k) if isinstance(k, dict) else k for k in kinds])
got = list(cur.fetchone())
got[5] = bytes(got[5])
assert got == kinds + ["nothing"], got
cur.execute("CALL kinds(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, w => %s)", [None] * 12)
assert cur.fetchone() == (None,) * 12
assert [c.name for c in cur.description] == list("binftoudzjaw")
conn.commit()

# Errors carry their SQLSTATE, and the transaction waits for its end.
cur.execute("CALL deposit(%s, %s)", (ACCOUNT, 10))
e = raises(psycopg2.errors.NoDataFound, cur.execute, "CALL deposit(-1, 1)")
assert e.diag.message_primary == "no such account"
assert conn.get_transaction_status() == TRANSACTION_STATUS_INERROR
raises(psycopg2.errors.InFailedSqlTransaction, cur.execute, "CALL balance(1)")
conn.rollback()
assert conn.get_transaction_status() == TRANSACTION_STATUS_IDLE
raises(psycopg2.errors.UndefinedFunction, cur.execute, "CALL nobody(1)")
conn.rollback()
raises(psycopg2.errors.UndefinedTable, cur.execute, "SELECT * FROM account")
conn.rollback()
assert balance() == 0

# Transactions and savepoints.
conn.set_session(isolation_level="SERIALIZABLE", deferrable=False)
cur.execute("CALL deposit(%s, %s)", (ACCOUNT, Decimal("1.25")))
cur.execute("SAVEPOINT s")
cur.execute("CALL deposit(%s, %s)", (ACCOUNT, 100))
cur.execute("ROLLBACK TO SAVEPOINT s")
cur.execute("RELEASE SAVEPOINT s")
conn.commit()
assert balance() == Decimal("1.25")
conn.set_session(isolation_level="DEFAULT", readonly=True, autocommit=False)
raises(psycopg2.errors.ReadOnlySqlTransaction, cur.execute, "CALL deposit(%s, 1)", (ACCOUNT,))
conn.rollback()
conn.set_session(readonly=False, autocommit=True)
cur.execute("CALL deposit(%s, 1); CALL deposit(%s, -1)", (ACCOUNT, ACCOUNT))
conn.autocommit = False

# callproc sends SELECT * FROM f(…).
cur.callproc("balance", (ACCOUNT,))
assert cur.fetchone() == (Decimal("1.25"),)
conn.commit()

# Two phases: commit, roll back, and recover what another connection prepared.
def prepared(gtrid, account=ACCOUNT):
    conn = connect()
    xid = conn.xid(42, gtrid, "branch")
    conn.tpc_begin(xid)
    conn.cursor().execute("CALL deposit(%s, 10)", (account,))
    conn.tpc_prepare()
    assert conn.status == STATUS_PREPARED
    return conn, xid


first, _ = prepared(f"one {ACCOUNT}")
first.tpc_commit()
second, _ = prepared(f"two {ACCOUNT}")
second.tpc_rollback()
third, xid = prepared(THREE)
raises(psycopg2.errors.DuplicateObject, prepared, THREE, OTHER)
third.close()
found = [x for x in conn.tpc_recover() if x.gtrid == THREE]
assert len(found) == 1 and found[0].format_id == 42 and found[0].bqual == "branch" and found[0].database == "shop", found
conn.tpc_commit(found[0])
raises(psycopg2.errors.UndefinedObject, conn.tpc_commit, xid)
conn.tpc_begin(conn.xid(42, "one phase", ""))
cur.execute("CALL deposit(%s, 1)", (ACCOUNT,))
conn.tpc_commit()
assert balance() == Decimal("22.25"), balance()

# The pool resets what it lends.
pool = SimpleConnectionPool(1, 2, "application_name=pool")
lent = pool.getconn()
lent.cursor().execute("CALL deposit(%s, 1000)", (ACCOUNT,))
pool.putconn(lent)
lent = pool.getconn()
assert lent.get_transaction_status() == TRANSACTION_STATUS_IDLE
lent.reset()
pool.putconn(lent)
pool.closeall()

# A statement that takes too long is cancelled.
alarm = threading.Timer(0.2, conn.cancel)
alarm.start()
raises(psycopg2.errors.QueryCanceled, cur.execute, "CALL nap(60)")
alarm.join()
conn.rollback()
assert balance() == Decimal("22.25")
conn.close()
