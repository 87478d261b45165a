"""Django's ORM connection: introspection, atomic blocks, health checks of persistent connections."""

import os
import sys
from decimal import Decimal

from django.conf import settings

ACCOUNT = int(os.environ.get("ACCOUNT", "1"))
options = {"OPTIONS": {"sslmode": os.environ["PGSSLMODE"], "sslrootcert": os.environ.get("PGSSLROOTCERT", "")}} if "PGSSLMODE" in os.environ else {}
settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"], "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"], "PASSWORD": os.environ.get("PGPASSWORD", ""), "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True, **options,
}})

import django  # noqa: E402
from django.db import InternalError, OperationalError, ProgrammingError, connection, transaction  # noqa: E402

django.setup()
with connection.cursor() as cur:
    cur.execute("SELECT 1")
    assert cur.fetchone() == (1,)
if sys.argv[1:] == ["start"]:
    connection.close()
    sys.exit()

assert connection.introspection.table_names() == []
with connection.cursor() as cur:
    cur.execute("SELECT routine_name FROM information_schema.routines WHERE routine_name = %s", ["deposit"])
    assert cur.fetchall() == [("deposit",)]


def balance():
    with connection.cursor() as cur:
        cur.execute("SELECT * FROM balance(%s)", [ACCOUNT])
        return cur.fetchone()[0]


def deposit(account, amount):
    with connection.cursor() as cur:
        cur.execute("CALL deposit(%s, %s)", [account, amount])


deposit(ACCOUNT, Decimal("1.5"))
with transaction.atomic():
    deposit(ACCOUNT, 1)
    try:
        with transaction.atomic():
            deposit(ACCOUNT, 100)
            deposit(-1, 100)
    except (InternalError, OperationalError, ProgrammingError):
        pass
assert balance() == Decimal("2.5")
with connection.cursor() as cur:
    cur.callproc("balance", [ACCOUNT])
    assert cur.fetchone() == (Decimal("2.5"),)
for _ in range(3):  # what begins and ends a request: the connection is checked before its next use
    django.core.signals.request_started.send(None)
    assert connection.is_usable() and balance() == Decimal("2.5")
    django.core.signals.request_finished.send(None)
connection.close()
