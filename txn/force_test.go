package txn_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/txn/spool"
)

// aftermath is what is answered to COMMIT PREPARED, then to ROLLBACK PREPARED
// after recovery, and how many messages there are in the end.
type aftermath struct {
	commit, rollback error
	messages         int
}

// TestFailedForce has the force of one record fail after its bytes were written:
// nobody knows then whether they are on disk, and so the client is told. If they
// come back they count, from a durable copy that is made before anything is done
// about them. If they are lost, all is as if nobody had asked.
func TestFailedForce(t *testing.T) {
	unknown := aftermath{txn.ErrUnknownGID, txn.ErrUnknownGID, 0}
	doubt := aftermath{nil, txn.ErrAlreadyCommitted, 1}
	for _, test := range []struct {
		what, record string
		back, lost   aftermath
	}{
		{"commit", "commit", aftermath{txn.ErrUnknownGID, txn.ErrUnknownGID, 1}, unknown},
		{"prepare", "prepared", doubt, unknown},
		{"commit-prepared", "commit", aftermath{nil, txn.ErrAlreadyCommitted, 1}, doubt},
		{"rollback-prepared", "abort", aftermath{txn.ErrAlreadyRolledBack, nil, 0}, doubt},
	} {
		for name, want := range map[string]aftermath{"back": test.back, "lost": test.lost} {
			t.Run(test.what+"/"+name, func(t *testing.T) {
				t.Parallel()
				p := newFastPlace(t)
				log, durable := p.failForce(t, test.what)
				if name == "lost" {
					wantErr(t, os.WriteFile(log, durable, 0o600), nil)
				}
				raw, err := os.ReadFile(log)
				if there := bytes.Contains(raw, []byte(`{"kind":"`+test.record+`"`)); err != nil || there != (name == "back") {
					t.Fatalf("the record is there: %t, %v", there, err)
				}
				p.reboot(t)

				var mu sync.Mutex
				var steps []string
				hook := func(step string) error {
					mu.Lock()
					defer mu.Unlock()
					steps = append(steps, step)
					return nil
				}
				m := p.open(t, func(o *txn.Options) {
					txn.SetFault(o, hook)
					o.Resources[0] = faulty{o.Resources[0].(*spool.Spool), hook}
				})
				defer closeAll(t, m)
				p.recover(t, m)
				copied := slices.Index(steps, "publish log")
				if at := slices.IndexFunc(steps, func(s string) bool { return strings.HasPrefix(s, "send ") }); copied < 0 || at >= 0 && at < copied {
					t.Errorf("what came back was acted upon before it was made durable: %q", steps)
				}
				s := m.NewSession(alice)
				wantErr(t, s.CommitPrepared(t.Context(), "x"), want.commit)
				wantErr(t, s.RollbackPrepared(t.Context(), "x"), want.rollback)
				p.wantMessages(t, want.messages, want.messages)
				p.wantNoneOpen(t, m)
				p.wantTidy(t)
			})
		}
	}
}

// failForce is the life of a worker whose first force fails after a transaction
// was begun, or prepared. It returns the worker's log, and what of it was durable
// before.
func (p place) failForce(t *testing.T, what string) (log string, durable []byte) {
	t.Helper()
	m, s, broken := p.breakable(t, "sync", what)
	logs, err := filepath.Glob(p.dir("log") + "/*.log")
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	durable, err = os.ReadFile(logs[0])
	wantErr(t, err, nil)
	broken.Store(true)
	switch what {
	case "commit":
		err = s.Commit(t.Context())
	case "prepare":
		err = s.Prepare(t.Context(), "x")
	case "commit-prepared":
		err = s.CommitPrepared(t.Context(), "x")
	case "rollback-prepared":
		err = s.RollbackPrepared(t.Context(), "x")
	}
	wantErr(t, err, txn.ErrPoisoned)
	wantErr(t, m.Err(), syscall.EIO)
	p.wantMessages(t, 0, 0)
	_ = m.Close(t.Context()) // the process ends
	return logs[0], durable
}
