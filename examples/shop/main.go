// Shop is a small application on fdt with its three faces: a procedure for
// clients of the PostgreSQL protocol, a page for those of HTTP, and a protocol of
// lines for tills. Each sale takes from the stock in PostgreSQL and puts a note
// into a spool, or neither.
//
// make deb in this directory builds a package of it; README.md has the rest.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt"
)

const version = "1"

func main() {
	fdt.Main(
		fdt.Version(version),
		fdt.Procedure("buy", buy),
		fdt.HTTP("web", http.HandlerFunc(web)),
		fdt.Stream("till", till),
		fdt.Rehearse(migrated),
	)
}

type order struct {
	Item  string
	Count int32 `fdt:",,default=1"`
}

type receipt struct {
	Left    int32
	Version string
}

// buy is CALL buy('pen', 2), or SELECT * FROM buy(item => 'pen').
func buy(ctx context.Context, tx *fdt.Tx, o order) (r receipt, err error) {
	r.Version = version
	err = tx.Postgres("stock").QueryRow(ctx, "UPDATE item SET left_over = left_over - $1 WHERE name = $2 AND left_over >= $1 RETURNING left_over",
		o.Count, o.Item).Scan(&r.Left)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, fdt.Errorf("P0002", "there are not %d of %q left", o.Count, o.Item)
	}
	if err != nil {
		return r, err
	}
	return r, tx.Put(ctx, "outbox", fmt.Appendf(nil, "%d %s\n", o.Count, o.Item))
}

// web sells by POST /ITEM?count=N. A request is a transaction.
func web(w http.ResponseWriter, r *http.Request) {
	count, err := strconv.ParseInt(r.FormValue("count"), 10, 32)
	if err != nil || r.Method != http.MethodPost {
		http.Error(w, "POST /ITEM?count=N", http.StatusBadRequest)
		return
	}
	var answer receipt
	err = fdt.Do(r.Context(), func(ctx context.Context, tx *fdt.Tx) (err error) {
		answer, err = buy(ctx, tx, order{strings.TrimPrefix(r.URL.Path, "/"), int32(count)})
		return err
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	_ = json.NewEncoder(w).Encode(answer) // the client may have gone
}

// till sells what a cashier types, an item a line, when told "paid". A
// connection is one transaction after another; what is not paid goes back.
func till(ctx context.Context, c *fdt.Conn) error {
	for {
		if err := c.Next(); err != nil {
			return err
		}
		line, err := c.ReadString('\n')
		if err != nil {
			return err
		}
		tx, answer := fdt.TxFrom(ctx), "ok "+version
		if line = strings.TrimSpace(line); line == "paid" {
			err = tx.Commit(ctx)
		} else {
			_, err = buy(ctx, tx, order{line, 1})
		}
		if err != nil {
			answer = "no: " + err.Error()
			_ = tx.Rollback(ctx) // it is over in any case
		}
		if _, err := fmt.Fprintln(c, answer); err != nil {
			return err
		}
	}
}

// migrated asks for what the code above needs of the database.
func migrated(ctx context.Context, tx *fdt.Tx) error {
	_, err := tx.Postgres("stock").Exec(ctx, "SELECT name, left_over FROM item LIMIT 0")
	return err
}
