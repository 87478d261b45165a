"""peewee: introspection, nested transactions, its pool."""

import os
import sys
from decimal import Decimal

from peewee import DatabaseError, PostgresqlDatabase
from playhouse.pool import PooledPostgresqlDatabase
from playhouse.reflection import Introspector

ACCOUNT = int(os.environ.get("ACCOUNT", "1"))
db = PostgresqlDatabase(os.environ["PGDATABASE"])
assert db.execute_sql("SELECT 1").fetchone() == (1,)
if sys.argv[1:] == ["start"]:
    db.close()
    sys.exit()


def balance(db=db):
    return db.execute_sql("SELECT * FROM balance(%s)", [ACCOUNT]).fetchone()[0]


assert db.get_tables() == [] and db.get_views() == [] and Introspector.from_database(db).generate_models() == {}
assert db.execute_sql("SELECT proname FROM pg_catalog.pg_proc WHERE proname = %s", ["deposit"]).fetchall() == [("deposit",)]
db.execute_sql("CALL deposit(%s, %s)", [ACCOUNT, Decimal("1.5")])
with db.atomic():
    db.execute_sql("CALL deposit(%s, 1)", [ACCOUNT])
    try:
        with db.atomic():
            db.execute_sql("CALL deposit(%s, 100)", [ACCOUNT])
            db.execute_sql("CALL deposit(-1, 100)")
    except DatabaseError:
        pass
assert balance() == Decimal("2.5")
db.close()
pool = PooledPostgresqlDatabase(os.environ["PGDATABASE"], max_connections=2)
for _ in range(3):
    with pool.connection_context():
        assert balance(pool) == Decimal("2.5")
