package bank

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"strings"

	"github.com/fdtserver/fdt/internal/testdb"
)

// evidence tells what MariaDB shows of its sessions and transactions, and what this process is at, for a transaction that does not end.
func evidence(my *testdb.MariaDB) string {
	var b strings.Builder
	db, err := sql.Open("mysql", my.DSN("root", "bank"))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = db.Close() }()
	for _, query := range []string{"SHOW FULL PROCESSLIST", "SELECT * FROM information_schema.INNODB_TRX", "XA RECOVER"} {
		fmt.Fprintln(&b, query)
		if err := table(&b, db, query); err != nil {
			fmt.Fprintln(&b, err)
		}
	}
	stacks := make([]byte, 1<<18)
	b.Write(stacks[:runtime.Stack(stacks, true)])
	return b.String()
}

func table(b *strings.Builder, db *sql.DB, query string) error {
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, v := range values {
			if v.String != "" {
				fmt.Fprintf(b, " %s=%q", names[i], v.String)
			}
		}
		fmt.Fprintln(b)
	}
	return rows.Err()
}
