package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Try has the server read one statement, with the tables and types in it, and does not run it. An error fails the branch. A statement that
// PostgreSQL runs in no transaction is refused, too, and one with which a transaction can be committed but not prepared has an error with
// the method OnePhase.
func (b *Branch) Try(ctx context.Context, sql string) error {
	if err := b.begun(ctx); err != nil {
		return err
	}
	_, err := b.c.pg.PgConn().Prepare(ctx, "", sql, nil)
	b.c.note(ctx, err)
	switch {
	case err != nil:
		return b.failure(ctx, err)
	case alone.MatchString(plain(sql)):
		return fmt.Errorf("resource %s: %w", b.r.opt.Name, errAlone)
	case onePhase.MatchString(plain(sql)):
		return fmt.Errorf("resource %s: %w", b.r.opt.Name, &unpreparable{})
	}
	return nil
}

var errAlone = errors.New("PostgreSQL runs this by itself only, not in a transaction")

// unpreparable is of a statement that PREPARE TRANSACTION refuses to have in its transaction.
type unpreparable struct{}

// Error says so.
func (*unpreparable) Error() string {
	return "with this statement in it PostgreSQL can commit a transaction, but not prepare it: LISTEN, NOTIFY, temporary tables and cursors " +
		"WITH HOLD have no part in two-phase commit"
}

// OnePhase says that a transaction of one resource can do with the statement.
func (*unpreparable) OnePhase() {}

// Both are of a statement's text without comments and what is quoted, in lower case and with single spaces.
var (
	alone = regexp.MustCompile(`^(vacuum|alter system|discard all|(create|drop) (database|tablespace)|cluster$|` +
		`(create( unique)?|drop|reindex( \([^)]*\))?) (index|table) concurrently|reindex( \([^)]*\))? (database|system|schema))\b`)
	onePhase = regexp.MustCompile(`^(listen|notify)\b|\bpg_notify ?\(|^create( or replace)?( local| global)? temp(orary)?\b|` +
		`^discard temp|\bpg_temp\.|\binto temp(orary)?\b|^declare\b.*\bwith hold\b`)
	noise  = regexp.MustCompile(`(?s)--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$\$.*?\$\$`)
	spaces = regexp.MustCompile(`\s+`)
)

// plain is what the two expressions look at.
func plain(sql string) string {
	return strings.TrimSpace(spaces.ReplaceAllString(strings.ToLower(noise.ReplaceAllString(sql, " ")), " "))
}
