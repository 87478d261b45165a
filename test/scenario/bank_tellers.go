package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/test/ledger"
	"github.com/fdtserver/fdt/test/load"
)

// teller is one client of the bank, and the outside coordinator of its prepared transfers.
type teller struct {
	s     *Stage
	books *ledger.Ledger
	heard *heard
	name  string
	conn  *pgconn.PgConn // nil when there is none
}

// heard is what all clients got beside what they asked for.
type heard struct {
	cuts atomic.Int64 // how often a client died in a call

	mu       sync.Mutex
	kinds    map[string]int // of errors
	internal []string       // texts of SQLSTATE XX000, which nobody should hear
}

func (h *heard) error(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kinds == nil {
		h.kinds = map[string]int{}
	}
	h.kinds[load.Kind(err)]++
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "XX000" {
		h.internal = append(h.internal, pgErr.Message)
	}
}

// tellerPatience bounds one request: a server that hangs must not be waited for.
const tellerPatience = time.Minute

// work transfers until ctx ends, and lets the last one end.
func (t *teller) work(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		t.transfer(ctx, fmt.Sprintf("%s.%d", t.name, i))
	}
	t.hangUp()
}

func (t *teller) hangUp() {
	if t.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = t.conn.Close(ctx) // it may be dead
		t.conn = nil
	}
}

// answer is what a client knows after a request.
type answer int

const (
	yes     answer = iota + 1
	no             // refused: nothing was done
	unknown        // no answer, or one that leaves it open
)

// ask sends one request, and compares the tag of the last reply with the one wanted, unless that is empty. Once in a while the client
// dies before it hears the answer.
func (t *teller) ask(sql, tag string, mortal bool) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tellerPatience)
	defer cancel()
	if t.conn == nil {
		conn, err := t.s.target().Connect(ctx)
		if err != nil {
			t.heard.error(err)
			return no, err // nothing was sent
		}
		t.conn = conn
	}
	if mortal && rand.IntN(20) == 0 {
		t.heard.cuts.Add(1)
		raw := t.conn.Conn()
		death := time.AfterFunc(rand.N(20*time.Millisecond), func() { _ = raw.Close() })
		defer death.Stop()
	}
	results, err := t.conn.Exec(ctx, sql).ReadAll()
	if t.conn.IsClosed() {
		t.hangUp()
	}
	if err != nil {
		t.heard.error(err)
	}
	pgErr, told := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil && tag != "" && results[len(results)-1].CommandTag.String() != tag:
		return no, fmt.Errorf("%s instead of %s", results[len(results)-1].CommandTag, tag)
	case err == nil:
		return yes, nil
	case told && pgErr.Code != "08007":
		return no, err
	}
	return unknown, err
}

// transfer is one transaction over all three resources.
func (t *teller) transfer(ctx context.Context, id string) {
	call := fmt.Sprintf("CALL %s('%s', %d, %d, %d)", []string{"transfer", "back"}[rand.IntN(2)], id,
		rand.IntN(bankAccounts), rand.IntN(bankAccounts), 1+rand.IntN(9))
	t.books.Say(ledger.Try, id)
	switch rand.IntN(4) {
	case 0:
		got, _ := t.ask(call, "CALL", true)
		t.conclude(id, got)
	case 1:
		if t.begin(id, call) {
			got, _ := t.ask("COMMIT", "COMMIT", true)
			t.conclude(id, got)
		}
	default:
		if t.begin(id, call) {
			t.coordinate(ctx, id)
		}
	}
	t.breathe()
}

// breathe lets others in while a database is down and every call fails at once.
func (t *teller) breathe() { time.Sleep(rand.N(20 * time.Millisecond)) }

func (t *teller) conclude(id string, got answer) {
	switch got {
	case yes:
		t.books.Say(ledger.Done, id)
	case no:
		t.books.Say(ledger.Failed, id)
	case unknown:
	}
}

// begin does all but the end, and tells whether that is due.
func (t *teller) begin(id, call string) bool {
	got, _ := t.ask("BEGIN; "+call, "CALL", true)
	if got == yes {
		return true
	}
	t.books.Say(ledger.Failed, id) // whatever happened: nothing asked for its end
	if t.conn != nil {
		_, _ = t.ask("ROLLBACK", "", false) // a connection that is lost has the same effect
	}
	return false
}

// coordinate is the part of an outside coordinator: the vote, its decision, and the decision told until it is acknowledged. It gives up,
// with the transfer left in doubt, once in a while and at the end of ctx.
func (t *teller) coordinate(ctx context.Context, id string) {
	vote, _ := t.ask("PREPARE TRANSACTION '"+id+"'", "PREPARE TRANSACTION", true)
	switch {
	case vote == no:
		t.books.Say(ledger.Failed, id)
		if t.conn != nil {
			_, _ = t.ask("ROLLBACK", "", false)
		}
		return
	case rand.IntN(40) == 0:
		return
	}
	decision, outcome := "COMMIT", ledger.Done
	if vote == unknown || rand.IntN(4) == 0 {
		decision, outcome = "ROLLBACK", ledger.Failed
		t.books.Say(ledger.Abort, id)
	} else {
		t.books.Say(ledger.Commit, id)
	}
	for ctx.Err() == nil {
		got, err := t.ask(decision+" PREPARED '"+id+"'", decision+" PREPARED", true)
		pgErr, told := errors.AsType[*pgconn.PgError](err)
		switch {
		case got == yes, told && pgErr.Code == "42704" && vote == unknown:
			t.books.Say(outcome, id)
			return
		case told && !again[pgErr.Code]:
			t.books.SayOdd(id, pgErr.Error())
			return
		}
		t.breathe()
	}
}

// again are the SQLSTATEs on which a coordinator asks again (fdt-worker(8)): the outcome is pending, the transaction busy, the log full,
// all connections in use, the worker on its way out.
var again = map[string]bool{"08007": true, "55000": true, "53100": true, "53300": true, "57P01": true}
