\set amount random(-1000, 1000)
\set rest 1 - :amount
BEGIN;
CALL deposit(:account, :amount);
SAVEPOINT s;
CALL deposit(:account, :rest);
COMMIT;
CALL balance(:account) \gset
