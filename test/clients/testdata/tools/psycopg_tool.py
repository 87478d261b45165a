"""psycopg2 and psycopg 3 as they start; what else they do is in psycopg2_client.py and psycopg3_client.py."""

import sys

driver = __import__(sys.argv[1])
conn = driver.connect("")
cur = conn.cursor()
cur.execute("SELECT 1")
assert cur.fetchone() == (1,)
conn.commit()
conn.close()
