package mariadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Try has the server read one statement, with the tables and types in it, and does not run it. It refuses a statement before which MariaDB
// commits, as that is refused in a branch, and one that changes a table whose engine has no transactions, as far as the statement shows
// it; what a view, a join or a trigger leads to the vote finds, and what a procedure changes nobody. A statement that the protocol of prepared statements does not have is taken as it
// is.
func (b *Branch) Try(ctx context.Context, text string) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	if commits(text) {
		return b.fault("statement", errCommits)
	}
	statement, err := b.c.PrepareContext(ctx, text)
	if err == nil {
		err = errors.Join(statement.Close(), b.c.undoable(ctx, text))
	}
	if err == nil || number(err) == errUnpreparable {
		return nil
	}
	return b.fault("statement", wrap(ctx, err))
}

var errCommits = errors.New("MariaDB commits before it runs this, and so refuses it in a distributed transaction (XAER_RMFAIL)")

// implicit are the first words of statements before which MariaDB commits ("SQL statements that cause an implicit commit"), those of
// administration included that it refuses in a branch as well.
var implicit = []string{
	"ALTER", "COMMIT", "CREATE", "DROP", "FLUSH", "GRANT", "INSTALL", "LOCK", "OPTIMIZE", "RENAME", "REPAIR", "RESET", "REVOKE", "START",
	"TRUNCATE", "UNINSTALL",
}

// commits tells of a statement that MariaDB refuses in a branch since it would commit.
func commits(text string) bool {
	first, rest := verb(text)
	second, rest := verb(rest)
	switch first {
	case "CREATE":
		if second == "OR" {
			_, rest = verb(rest) // REPLACE
			second, _ = verb(rest)
		}
		return second != "TEMPORARY"
	case "DROP":
		return second != "TEMPORARY" && second != "PREPARE"
	case "ANALYZE", "CHECK":
		return second == "TABLE" || second == "VIEW" || second == "LOCAL"
	case "SET":
		return second == "PASSWORD"
	}
	return slices.Contains(implicit, first)
}

// target is the table that a statement changes, with its schema or none, if it is of a form with one table.
func target(text string) (schema, table string, ok bool) {
	first, rest := verb(text)
	var noise []string
	switch first {
	case "INSERT", "REPLACE":
		noise = []string{"LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"}
	case "UPDATE":
		noise = []string{"LOW_PRIORITY", "IGNORE"}
	case "DELETE":
		noise = []string{"LOW_PRIORITY", "QUICK", "IGNORE", "HISTORY", "FROM"}
	default:
		return "", "", false
	}
	from := false
	for word, after := verb(rest); slices.Contains(noise, word); word, after = verb(rest) {
		rest, from = after, from || word == "FROM"
	}
	table, rest = identifier(rest)
	if after, dot := strings.CutPrefix(skip(rest, ""), "."); dot {
		schema = table
		table, rest = identifier(after)
	}
	alone := true
	switch first {
	case "UPDATE":
		next, after := verb(rest)
		if next == "AS" {
			next, after = verb(after)
		}
		if next != "SET" { // an alias
			next, _ = verb(after)
		}
		alone = next == "SET"
	case "DELETE":
		next, _ := verb(rest)
		alone = from && !strings.HasPrefix(skip(rest, ""), ",") && next != "USING"
	}
	return schema, table, table != "" && alone
}

// identifier reads a name, quoted or not, and returns what follows.
func identifier(text string) (name, rest string) {
	text = skip(text, "")
	if strings.HasPrefix(text, "`") {
		for i := 1; i < len(text); i++ {
			if text[i] != '`' {
				continue
			}
			if !strings.HasPrefix(text[i+1:], "`") {
				return strings.ReplaceAll(text[1:i], "``", "`"), text[i+1:]
			}
			i++
		}
		return "", ""
	}
	end := 0
	for end < len(text) && (text[end] >= 0x80 || text[end] == '_' || text[end] == '$' || text[end] >= '0' && text[end] <= '9' || text[end]|0x20 >= 'a' && text[end]|0x20 <= 'z') {
		end++
	}
	return text[:end], text[end:]
}

// undoable asks whether the table that a statement changes is of an engine with transactions.
func (c *conn) undoable(ctx context.Context, text string) error {
	schema, table, ok := target(text)
	if !ok {
		return nil
	}
	var name, engine string
	err := c.QueryRowContext(ctx, `SELECT CONCAT(t.TABLE_SCHEMA, '.', t.TABLE_NAME), t.ENGINE FROM information_schema.TABLES t
		JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
		WHERE t.TABLE_SCHEMA = COALESCE(NULLIF(?, ''), DATABASE()) AND t.TABLE_NAME = ? AND NOT (e.TRANSACTIONS = 'YES' AND e.XA = 'YES')`, schema, table).
		Scan(&name, &engine)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("table %s is of the engine %s, which has no transactions, so that what is changed there cannot be undone: ALTER TABLE %s ENGINE=InnoDB", name, engine, quote(name))
}
