package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"os"

	"github.com/go-pg/pg/v10"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq" // for database/sql
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

var errOnPurpose = errors.New("on purpose")

const lookup = "SELECT proname FROM pg_catalog.pg_proc WHERE proname = "

// plain is a tool on database/sql.
func plain(db *sql.DB) *tool {
	return &tool{
		one: func(ctx context.Context) (n int, err error) {
			return n, db.QueryRowContext(ctx, "SELECT 1").Scan(&n)
		},
		procedure: func(ctx context.Context, name string) (got string, err error) {
			return got, db.QueryRowContext(ctx, lookup+"$1", name).Scan(&got)
		},
		deposit: func(ctx context.Context, account, amount int64) error {
			_, err := db.ExecContext(ctx, "CALL deposit($1, $2)", account, amount)
			return err
		},
		within: func(ctx context.Context, amount int64, ok bool) error {
			tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
			if err != nil {
				return err
			}
			defer tx.Rollback() //nolint:errcheck // it may have ended
			if _, err := tx.ExecContext(ctx, "CALL deposit($1, $2)", account, amount); err != nil || !ok {
				return errors.Join(err, errOnPurpose)
			}
			return tx.Commit()
		},
		two: func(ctx context.Context, gid string) error {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			return errors.Join(begun(ctx, gid, func(ctx context.Context, q string) error {
				_, err := conn.ExecContext(ctx, q)
				return err
			}), conn.Close())
		},
		exec: func(ctx context.Context, q string) error {
			_, err := db.ExecContext(ctx, q)
			return err
		},
		balance: func(ctx context.Context) (n int64, err error) {
			st, err := db.PrepareContext(ctx, "SELECT * FROM balance($1)")
			if err != nil {
				return 0, err
			}
			return n, errors.Join(st.QueryRowContext(ctx, account).Scan(&n), st.Close())
		},
		close: db.Close,
	}
}

// begun prepares a deposit of 10.
func begun(ctx context.Context, gid string, exec func(context.Context, string) error) error {
	for _, q := range []string{"BEGIN", "CALL deposit(" + os.Getenv("ACCOUNT") + ", 10)", "PREPARE TRANSACTION '" + gid + "'"} {
		if err := exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func openPQ(context.Context) (*tool, error) {
	db, err := sql.Open("postgres", dsn())
	if err != nil {
		return nil, err
	}
	return plain(db), nil
}

func openSQLX(ctx context.Context) (*tool, error) {
	db, err := sqlx.ConnectContext(ctx, "postgres", dsn())
	if err != nil {
		return nil, err
	}
	t := plain(db.DB)
	t.procedure = func(ctx context.Context, name string) (got string, err error) {
		return got, db.GetContext(ctx, &got, lookup+"$1", name)
	}
	t.balance = func(ctx context.Context) (int64, error) {
		var row struct{ Balance int64 }
		st, err := db.PrepareNamedContext(ctx, "SELECT * FROM balance(:a)")
		if err != nil {
			return 0, err
		}
		return row.Balance, errors.Join(st.GetContext(ctx, &row, map[string]any{"a": account}), st.Close())
	}
	return t, nil
}

func openPgx(ctx context.Context) (*tool, error) {
	pool, err := pgxpool.New(ctx, "")
	if err != nil {
		return nil, err
	}
	return &tool{
		one: func(ctx context.Context) (n int, err error) { return n, pool.QueryRow(ctx, "SELECT 1").Scan(&n) },
		procedure: func(ctx context.Context, name string) (got string, err error) {
			return got, pool.QueryRow(ctx, lookup+"$1", name).Scan(&got)
		},
		deposit: func(ctx context.Context, account, amount int64) error {
			_, err := pool.Exec(ctx, "CALL deposit($1, $2)", account, amount)
			return err
		},
		within: func(ctx context.Context, amount int64, ok bool) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "CALL deposit($1, $2)", account, amount); err != nil || !ok {
					return errors.Join(err, errOnPurpose)
				}
				return nil
			})
		},
		two: func(ctx context.Context, gid string) error {
			return pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
				return begun(ctx, gid, func(ctx context.Context, q string) error {
					_, err := c.Exec(ctx, q)
					return err
				})
			})
		},
		exec: func(ctx context.Context, q string) error {
			_, err := pool.Exec(ctx, q)
			return err
		},
		balance: func(ctx context.Context) (n int64, err error) {
			return n, errors.Join(pool.Ping(ctx), pool.QueryRow(ctx, "SELECT * FROM balance($1)", account).Scan(&n))
		},
		close: func() error {
			pool.Close()
			return nil
		},
	}, nil
}

func openGORM(context.Context) (*tool, error) {
	db, err := gorm.Open(postgres.Open(""), &gorm.Config{})
	if err != nil {
		return nil, err
	}
	under, err := db.DB()
	if err != nil {
		return nil, err
	}
	t := plain(under)
	t.procedure = func(ctx context.Context, name string) (got string, err error) {
		if tables, err := db.Migrator().GetTables(); err != nil || len(tables) > 0 || db.Migrator().HasTable("account") {
			return "", errors.Join(err, errors.New("there are tables"))
		}
		return got, db.WithContext(ctx).Table("pg_catalog.pg_proc").Select("proname").Where("proname = ?", name).Limit(1).Scan(&got).Error
	}
	t.deposit = func(ctx context.Context, account, amount int64) error {
		return db.WithContext(ctx).Exec("CALL deposit(?, ?)", account, amount).Error
	}
	t.within = func(ctx context.Context, amount int64, ok bool) error {
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec("CALL deposit(?, ?)", account, amount).Error; err != nil || !ok {
				return errors.Join(err, errOnPurpose)
			}
			return nil
		})
	}
	t.balance = func(ctx context.Context) (n int64, err error) {
		return n, db.WithContext(ctx).Session(&gorm.Session{PrepareStmt: true}).Raw("SELECT * FROM balance(?)", account).Scan(&n).Error
	}
	return t, nil
}

// encryption is nil, or TLS as PGSSLROOTCERT asks for it, of tools that do not read it.
func encryption() (*tls.Config, error) {
	file := os.Getenv("PGSSLROOTCERT")
	if file == "" {
		return nil, nil //nolint:nilnil // no encryption
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: os.Getenv("PGHOST")}, nil
}

func openBun(context.Context) (*tool, error) {
	secure, err := encryption()
	if err != nil {
		return nil, err
	}
	options := []pgdriver.Option{
		pgdriver.WithAddr(os.Getenv("PGHOST") + ":" + os.Getenv("PGPORT")), pgdriver.WithUser(os.Getenv("PGUSER")),
		pgdriver.WithPassword(os.Getenv("PGPASSWORD")), pgdriver.WithDatabase(os.Getenv("PGDATABASE")),
	}
	if secure == nil {
		options = append(options, pgdriver.WithInsecure(true))
	} else {
		options = append(options, pgdriver.WithTLSConfig(secure))
	}
	db := bun.NewDB(sql.OpenDB(pgdriver.NewConnector(options...)), pgdialect.New())
	t := plain(db.DB)
	t.procedure = func(ctx context.Context, name string) (got string, err error) {
		return got, db.NewSelect().Table("pg_catalog.pg_proc").Column("proname").Where("proname = ?", name).Scan(ctx, &got)
	}
	t.deposit = func(ctx context.Context, account, amount int64) error {
		_, err := db.ExecContext(ctx, "CALL deposit(?, ?)", account, amount)
		return err
	}
	t.within = func(ctx context.Context, amount int64, ok bool) error {
		return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			if _, err := tx.ExecContext(ctx, "CALL deposit(?, ?)", account, amount); err != nil || !ok {
				return errors.Join(err, errOnPurpose)
			}
			return nil
		})
	}
	return t, nil
}

func openGoPG(context.Context) (*tool, error) {
	secure, err := encryption()
	if err != nil {
		return nil, err
	}
	db := pg.Connect(&pg.Options{
		Addr: os.Getenv("PGHOST") + ":" + os.Getenv("PGPORT"), User: os.Getenv("PGUSER"), Password: os.Getenv("PGPASSWORD"),
		Database: os.Getenv("PGDATABASE"), TLSConfig: secure,
	})
	return &tool{
		one: func(ctx context.Context) (n int, err error) {
			_, err = db.QueryOneContext(ctx, pg.Scan(&n), "SELECT 1")
			return n, err
		},
		procedure: func(ctx context.Context, name string) (got string, err error) {
			_, err = db.QueryOneContext(ctx, pg.Scan(&got), lookup+"?", name)
			return got, err
		},
		deposit: func(ctx context.Context, account, amount int64) error {
			_, err := db.ExecContext(ctx, "CALL deposit(?, ?)", account, amount)
			return err
		},
		within: func(ctx context.Context, amount int64, ok bool) error {
			return db.RunInTransaction(ctx, func(tx *pg.Tx) error {
				if _, err := tx.Exec("CALL deposit(?, ?)", account, amount); err != nil || !ok {
					return errors.Join(err, errOnPurpose)
				}
				return nil
			})
		},
		two: func(ctx context.Context, gid string) error {
			conn := db.Conn()
			return errors.Join(begun(ctx, gid, func(ctx context.Context, q string) error {
				_, err := conn.ExecContext(ctx, q)
				return err
			}), conn.Close())
		},
		exec: func(ctx context.Context, q string) error {
			_, err := db.ExecContext(ctx, q)
			return err
		},
		balance: func(ctx context.Context) (n int64, err error) {
			st, err := db.Prepare("SELECT * FROM balance($1)")
			if err != nil {
				return 0, err
			}
			_, err = st.QueryOneContext(ctx, pg.Scan(&n), account)
			return n, errors.Join(err, st.Close())
		},
		close: db.Close,
	}, nil
}

// dsn says where there is no TLS, on which lib/pq insists unless told.
func dsn() string {
	if os.Getenv("PGUSER") == "clerk" {
		return "sslmode=disable"
	}
	return ""
}
