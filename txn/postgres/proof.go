package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/txn"
)

// era is where an xid8 means one transaction. A server that crashes before the xid8's WAL is on disk gives the same one out again, to a
// stranger: to say how it ended proves something only in the same life of the server, or once it is durable, as by PREPARE TRANSACTION.
// And another timeline need not have all that was durable on the one before, as a standby that was promoted early, or a backup.
type era struct {
	system, timeline string
	// life is when the postmaster started and when the statistics began. A backend's crash leaves the first as it was, but throws the
	// statistics away (xlog.c, pgstat_discard_stats). One who resets them by hand makes the outcomes of that moment unknown, not false.
	life string
}

// proof is "XID8/SYSTEM-IDENTIFIER/TIMELINE" of an xid8 that is durable; an earlier version wrote the xid8 alone. Of another it is
// "XID8@PID.START/SYSTEM-IDENTIFIER/TIMELINE/LIFE", with the session that may yet make it so; the xid8 is empty if it is not known.
func (e era) proof(xid, session string, durable bool) txn.Proof {
	if durable {
		return txn.Proof(xid + "/" + e.system + "/" + e.timeline)
	}
	return txn.Proof(xid + "@" + session + "/" + e.system + "/" + e.timeline + "/" + e.life)
}

// sessionOf is the session that a proof names; ok is false if it names none.
func sessionOf(p txn.Proof) (pid, start int64, ok bool) {
	first, _, _ := strings.Cut(string(p), "/")
	_, session, _ := strings.Cut(first, "@")
	n, err := fmt.Sscanf(session, "%d.%d", &pid, &start)
	return pid, start, err == nil && n == 2
}

// meaning is the xid8 of a proof, and whether it means in this era what it did in its own.
func (e era) meaning(p txn.Proof) (xid string, same bool, err error) {
	parts := strings.Split(string(p), "/")
	xid, _, named := strings.Cut(parts[0], "@")
	if named && xid == "" {
		return "", false, nil
	}
	if _, err := strconv.ParseUint(xid, 10, 64); err != nil {
		return "", false, fmt.Errorf("proof: %w", err)
	}
	same = true
	for i, is := range []string{e.system, e.timeline, e.life} {
		if len(parts) > i+1 {
			same = same && parts[i+1] == is
		}
	}
	return xid, same, nil
}
