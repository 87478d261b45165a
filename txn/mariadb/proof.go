package mariadb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fdtserver/fdt/txn"
)

var errNoProof = errors.New("there is no marker to tell the outcome by")

// evidence is what a Proof holds: who may hold the branch, and whether a marker was to be written. Its text is "SLOT/CONNECTION-ID",
// with "/m" for the marker.
type evidence struct {
	slot   uint32
	id     uint64
	marked bool
}

func (e evidence) proof() txn.Proof {
	text := fmt.Sprintf("%d/%d", e.slot, e.id)
	if e.marked {
		text += "/m"
	}
	return txn.Proof(text)
}

// parseProof reads a proof; ok is false where there is none, or none of this shape.
func parseProof(p txn.Proof) (e evidence, ok bool) {
	text, marked := strings.CutSuffix(string(p), "/m")
	if _, err := fmt.Sscanf(text, "%d/%d", &e.slot, &e.id); err != nil {
		return evidence{}, false
	}
	e.marked = marked
	return e, e.proof() == p
}

// holder is the session that the evidence names.
func (e evidence) holder(gid txn.GID) holder {
	return holder{lock: fmt.Sprintf("%s%d", lockPrefix(gid.Log, gid.Incarnation), e.slot), id: e.id}
}

// quote writes a name, qualified or not, as identifiers.
func quote(name string) string {
	return "`" + strings.ReplaceAll(strings.ReplaceAll(name, "`", "``"), ".", "`.`") + "`"
}

// makeMarker makes the marker table, once in the life of r.
func (r *Resource) makeMarker(ctx context.Context, c *conn) error {
	if r.opt.Marker == "" || r.marked.Load() {
		return nil
	}
	err := c.exec(ctx, "CREATE TABLE IF NOT EXISTS "+quote(r.opt.Marker)+` (
		branch VARBINARY(129) NOT NULL PRIMARY KEY COMMENT 'gid and resource of a committed branch of fdt',
		at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB`)
	if err != nil {
		return fmt.Errorf("marker table: %w", err)
	}
	r.marked.Store(true)
	return nil
}

// marker tells whether the branch, which has ended, has committed, if that can be told.
func (r *Resource) marker(ctx context.Context, c *conn, gid txn.GID, proof txn.Proof) (committed, known bool, err error) {
	if e, ok := parseProof(proof); r.opt.Marker == "" || !ok || !e.marked {
		return false, false, nil
	}
	err = c.QueryRowContext(ctx, "SELECT EXISTS (SELECT * FROM "+quote(r.opt.Marker)+" WHERE branch = ?)", r.key(gid)).Scan(&committed)
	return committed, err == nil, err
}

// key is the branch's key in the marker table, which several resources may share.
func (r *Resource) key(gid txn.GID) string { return gtrid(gid) + "/" + r.opt.Name }

// KeepsProofs tells whether there are markers: see txn.Forgetter.
func (r *Resource) KeepsProofs() bool { return r.opt.Marker != "" }

// Forget deletes the branch's marker.
func (r *Resource) Forget(ctx context.Context, gid txn.GID) error {
	if r.opt.Marker == "" {
		return nil
	}
	return r.privileged(ctx, func(c *conn) error {
		return c.exec(ctx, "DELETE FROM "+quote(r.opt.Marker)+" WHERE branch = ?", r.key(gid))
	})
}
