-- psql: simple statements, its variables, \gset, savepoints of its own, errors.
\getenv account ACCOUNT
\set gid 'psql ' :account
\pset footer off
\echo :SERVER_VERSION_NUM :ENCODING
CALL deposit(:account, 10.5);
CALL balance(:account) \gset
\echo :balance
CALL balance(account => :'account'::bigint);
SELECT * FROM balance(:'account');
BEGIN ISOLATION LEVEL SERIALIZABLE;
CALL deposit(:account, 1);
SAVEPOINT a;
CALL deposit(-1, 1);
\echo :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE
CALL deposit(:account, 1);
ROLLBACK TO a;
CALL balance(:account);
COMMIT AND CHAIN;
CALL deposit(:account, 100);
ROLLBACK;
ROLLBACK;
\set ON_ERROR_ROLLBACK on
BEGIN;
CALL deposit(-1, 1);
CALL deposit(:account, 1);
COMMIT;
\set AUTOCOMMIT off
CALL deposit(:account, 1);
PREPARE TRANSACTION :'gid';
SELECT database FROM pg_prepared_xacts WHERE gid = :'gid' AND owner = current_user;
COMMIT PREPARED :'gid';
ROLLBACK;
COMMIT PREPARED :'gid';
\set AUTOCOMMIT on
ROLLBACK PREPARED 'psql nobody';
CALL deposit(:account, 1) \; CALL deposit(-1, 1) \; CALL deposit(:account, 1);
CALL balance(:account);
/* comments -- everywhere */ CALL /* here too */ deposit(:account, -13.5) -- and at the end
;
SHOW transaction_isolation;
SET application_name = 'psql, with a ; in it';
SHOW application_name;
\set VERBOSITY sqlstate
CALL nobody(1);
CALL deposit(1);
SELECT * FROM account;
\copy account FROM '/dev/null'
LISTEN news;
\d account
\set QUIET on
\c
CALL balance(:account);
