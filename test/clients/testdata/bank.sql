CREATE TABLE account (id bigint PRIMARY KEY, balance numeric NOT NULL);
INSERT INTO account SELECT n, 0 FROM generate_series(1, 1000) n;
CREATE TABLE kind (b boolean, i integer, n numeric, f float8, t text, o bytea, u uuid, d date, z timestamptz, j jsonb, a bigint[], w text);
