"""psycopg_pool: with "check", connections are checked when borrowed and no error ever comes through; with "retry",
who retries on 57P01 sees no other. Runs until its input ends."""

import logging
import os
import sys
import threading
import time

from psycopg.errors import OperationalError
from psycopg_pool import ConnectionPool

check = sys.argv[1] == "check"
ACCOUNT = int(os.environ["ACCOUNT"])
OTHER = ACCOUNT + 1
GOODBYE = "terminating connection due to administrator command"
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it tells of each connection that it replaces
pool = ConnectionPool("", min_size=3, kwargs={"autocommit": True})
enough = threading.Event()
lock = threading.Lock()
made = retried = 0
faults = []


def borrow():
    """What later versions do with ConnectionPool(check=ConnectionPool.check_connection)."""
    while True:
        conn = pool.getconn()
        try:
            if check:
                conn.execute("")
            return conn
        except OperationalError:
            pool.putconn(conn)


def transact():
    conn = borrow()
    try:
        with conn.transaction():
            conn.execute("CALL deposit(%s, 1)", [ACCOUNT])
            conn.execute("CALL deposit(%s, -1)", [OTHER])
    finally:
        pool.putconn(conn)


def work():
    global made, retried
    while not enough.is_set():
        try:
            transact()
            with lock:
                made += 1
        except OperationalError as e:
            # AdminShutdown; or, from this version, no SQLSTATE when the connection's end came with it
            if check or e.sqlstate not in (None, "57P01") or GOODBYE not in str(e):
                faults.append(e)
            with lock:
                retried += 1
        except Exception as e:
            faults.append(e)
        time.sleep(0.001)


threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.read()
enough.set()
for thread in threads:
    thread.join()
pool.close()
for fault in faults:
    print(repr(fault), file=sys.stderr)
print(made, retried)
sys.exit(bool(faults))
