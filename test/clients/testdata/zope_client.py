"""Zope's transaction: a data manager over tpc_* joins fdt to its two-phase commit."""

import os

import psycopg2
import transaction
from transaction.interfaces import IDataManagerSavepoint, ISavepointDataManager, TransactionFailedError
from zope.interface import implementer

A = int(os.environ["ACCOUNT"])
B = A + 1


@implementer(IDataManagerSavepoint)
class Savepoint:
    def __init__(self, manager, name):
        self.manager, self.name = manager, name

    def rollback(self):
        self.manager.execute(f"ROLLBACK TO SAVEPOINT {self.name}")


@implementer(ISavepointDataManager)
class DataManager:
    """One connection to fdt in the current transaction, begun with the first statement."""

    def __init__(self, name):
        self.transaction_manager = transaction.manager
        self.name, self.savepoints, self.votes = name, 0, True
        self.conn = psycopg2.connect("application_name=clients")
        self.conn.tpc_begin(self.conn.xid(1, f"zope {name} {id(self):x}", name))
        transaction.get().join(self)

    def execute(self, *args):
        with self.conn.cursor() as cur:
            cur.execute(*args)

    def sortKey(self):
        return f"fdt:{self.name}"

    def savepoint(self):
        self.savepoints += 1
        self.execute(f"SAVEPOINT s{self.savepoints}")
        return Savepoint(self, f"s{self.savepoints}")

    def tpc_begin(self, _):
        pass

    def commit(self, _):
        pass

    def tpc_vote(self, _):
        if not self.votes:
            raise ValueError("no")
        self.conn.tpc_prepare()

    def tpc_finish(self, _):
        self.conn.tpc_commit()
        self.conn.close()

    def abort(self, _):
        if not self.conn.closed:
            self.conn.tpc_rollback()
            self.conn.close()

    tpc_abort = abort


def balances():
    with psycopg2.connect("application_name=clients") as conn, conn.cursor() as cur:
        result = []
        for account in A, B:
            cur.execute("CALL balance(%s)", (account,))
            result.append(cur.fetchone()[0])
        return result


def transfer(amount):
    a, b = DataManager("a"), DataManager("b")
    a.execute("CALL deposit(%s, %s)", (A, -amount))
    b.execute("CALL deposit(%s, %s)", (B, amount))
    return a, b


# Both commit.
transfer(5)
transaction.commit()
assert balances() == [-5, 5], balances()

# Nobody commits when the application gives up, …
transfer(7)
transaction.abort()
assert balances() == [-5, 5]

# … when the second votes no after the first has prepared, …
_, b = transfer(8)
b.votes = False
try:
    transaction.commit()
    raise AssertionError("committed")
except ValueError:
    transaction.abort()
assert balances() == [-5, 5]

# … or when a call has failed and its error was lost.
a, _ = transfer(9)
try:
    a.execute("CALL deposit(-1, 1)")
except psycopg2.errors.NoDataFound:
    pass
try:
    transaction.commit()
    raise AssertionError("committed")
except psycopg2.errors.InFailedSqlTransaction:
    transaction.abort()
assert balances() == [-5, 5]

# Savepoints over both.
a, b = transfer(1)
point = transaction.savepoint()
a.execute("CALL deposit(%s, 1000)", (A,))
b.execute("CALL deposit(%s, 1000)", (B,))
point.rollback()
transaction.commit()
assert balances() == [-6, 6], balances()
