package txn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/internal/powercut"
	"github.com/fdtserver/fdt/txn"
)

// TestPowerCut plays what workers do to their files, cut at every sync and after everything that somebody could see: what
// they had said or published by then holds, whatever of the rest reached the disk.
func TestPowerCut(t *testing.T) {
	const (
		x   = "begin put:a=x put:b=x prepare:x"
		two = "begin put:a=1 put:a=2 put:b=1 commit"
	)
	for name, lives := range map[string][]string{
		"commit prepared":   {x + " commit-prepared:x ack"},
		"rollback prepared": {x + " rollback-prepared:x ack"},
		"operator":          {x + " operator-commit:x"},
		"one message":       {"begin put:a=1 commit begin put:b=2 commit"},
		"one phase":         {"begin put:a=1 put:a=2 put:a=3 commit"},
		"rolled back":       {"begin put:a=5 put:b=5 rollback " + two},
		"named":             {"begin put:a=1 xid put:b=1 commit"},
		"rotate":            {two + " " + x + " rotate begin put:a=3 put:b=3 commit rotate commit-prepared:x"},
		"compacted":         {x + " " + two, "recover commit-prepared:x", "recover"},
		"name again":        {x + " commit-prepared:x", "begin put:a=y put:b=y prepare:x commit-prepared:x"},
		"acknowledged":      {x + " commit-prepared:x ack", "begin put:a=y put:b=y prepare:x"},
		"acknowledged here": {x + " rollback-prepared:x ack begin put:a=y put:b=y prepare:x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFastPlace(t)
			closeAll(t, p.open(t)) // the directories are there
			p.powerCut(t, lives...)
		})
	}
	t.Run("first", func(t *testing.T) {
		t.Parallel()
		newFastPlace(t).powerCut(t, x+" commit-prepared:x")
	})
}

// powerCut plays the lives of workers, one after another. Each dies when it is done, and closes nothing.
func (p place) powerCut(t *testing.T, lives ...string) {
	t.Helper()
	disk, err := powercut.New([]string{p.dir("log"), p.dir("a"), p.dir("b")}, []string{p.dir("claims")})
	if err != nil {
		t.Fatal(err)
	}
	o := oracle{p: p, disk: disk, seen: map[string]bool{}}
	for _, life := range lives {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), envPlace+"="+p.root, envScript+"="+life+" die", envDie+"=")
		calls, said, err := powercut.Run(cmd, t.TempDir())
		if errors.Is(err, powercut.ErrNoStrace) {
			t.Skipf("NOT TESTED: %v", err)
		}
		if !strings.Contains(said, "did "+life[strings.LastIndexByte(life, ' ')+1:]+"\n") {
			t.Fatalf("the worker: %v\n%s", err, said)
		}
		o.words, o.open = strings.Fields(life), nil
		o.begin()
		err = disk.Play(calls, func(m powercut.Moment) error {
			o.learn(m)
			if half := disk.HalfSynced(); m.Said != "" && len(half) > 0 {
				t.Errorf("%s, and a directory is not synced: %q", m.Said, half)
			}
			if !t.Failed() {
				o.cut(t, m)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	o.cut(t, powercut.Moment{Sync: "the end"})
	o.whole(t)
	t.Logf("%d cuts", o.cuts)
}

// fate is what may have become of a transaction.
type fate int

const (
	gone  fate = 1 << iota // rolled back
	open                   // in doubt
	there                  // all its messages are delivered
)

// promised is a transaction, and what recovery may make of it.
type promised struct {
	gid   string
	body  map[string][]string // by resource
	may   fate
	begun bool // its name was seen by others to be taken
	acked bool // its outcome need not be kept
}

// oracle knows what the workers have promised up to a moment.
type oracle struct {
	p     place
	disk  *powercut.Disk
	words []string // still to be done
	all   []*promised
	open  *promised
	cuts  int
	seen  map[string]bool // states with what was promised then
}

// named is the latest of that name.
func (o *oracle) named(gid string) *promised {
	for _, tx := range slices.Backward(o.all) {
		if tx.gid == gid {
			return tx
		}
	}
	return nil
}

// begin says what may happen from now on, as the next word may be under way.
func (o *oracle) begin() {
	if len(o.words) == 0 {
		return
	}
	verb, arg, _ := strings.Cut(o.words[0], ":")
	switch verb {
	case "begin":
		o.open = &promised{may: gone, body: map[string][]string{}}
		o.all = append(o.all, o.open)
	case "put":
		resource, body, _ := strings.Cut(arg, "=")
		o.open.body[resource] = append(o.open.body[resource], body)
	case "commit":
		o.open.may |= there
	case "prepare":
		o.open.gid = arg
		o.open.may |= open
	case "commit-prepared", "operator-commit":
		o.named(arg).may |= there
	case "rollback-prepared":
		o.named(arg).may |= gone
	}
}

// learn takes in what a worker said, or published.
func (o *oracle) learn(m powercut.Moment) {
	if m.Written != "" && !strings.Contains(m.At, "/new-") { // that one has no name yet
		o.published([]byte(m.Written))
	}
	if len(o.words) == 0 || m.Said != "did "+o.words[0]+"\n" {
		return
	}
	verb, arg, _ := strings.Cut(o.words[0], ":")
	o.words = o.words[1:]
	switch verb {
	case "commit":
		o.open.may = there
	case "prepare":
		o.open.may = open
	case "commit-prepared", "operator-commit":
		o.named(arg).may = there
	case "rollback-prepared":
		o.named(arg).may = gone
	case "ack":
		o.named("x").acked = true
	}
	o.begin()
}

// published takes in a claim, which others act upon as soon as they can read it.
func (o *oracle) published(line []byte) {
	var c struct {
		Client   string    `json:"client_gid"`
		Phase    txn.Phase `json:"phase"`
		Deciding string    `json:"deciding"`
		Claimant uint64    `json:"claimant"`
	}
	if json.Unmarshal(line, &c) != nil || c.Client == "" {
		return
	}
	tx := o.named(c.Client)
	switch c.Phase {
	case txn.Preparing:
		tx.begun = true
	case txn.Prepared:
		tx.may &^= gone * fate(bit(c.Deciding == ""))
	case txn.Committing, txn.Committed:
		tx.may &= there
	case txn.Aborting, txn.Aborted:
		tx.may &= gone
	}
}

func bit(is bool) int {
	if is {
		return 1
	}
	return 0
}

// promises is all that compare asks for.
func (o *oracle) promises() string {
	var b strings.Builder
	for _, tx := range o.all {
		fmt.Fprintf(&b, " %+v", *tx)
	}
	return b.String()
}

// cut has recovery run in every state in which the disk may be now.
func (o *oracle) cut(t *testing.T, m powercut.Moment) {
	t.Helper()
	promised := o.promises()
	for state := range o.disk.States() {
		key := state.Key() + promised
		if o.seen[key] {
			continue
		}
		o.seen[key] = true
		o.cuts++
		root, err := os.MkdirTemp("/dev/shm", "fdt-cut-")
		if err != nil {
			root, err = os.MkdirTemp(t.TempDir(), "")
		}
		if err != nil {
			t.Fatal(err)
		}
		p := newPlaceIn(t, root)
		if err := state.Restore(map[string]string{o.p.dir("log"): p.dir("log"), o.p.dir("a"): p.dir("a"), o.p.dir("b"): p.dir("b")}); err != nil {
			t.Fatal(err)
		}
		txn.Rebind(p.dir("log"), "m1")
		wrong := o.recovered(t.Context(), p)
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
		if wrong != nil {
			t.Errorf("at %+v, next %q, of what is not synced there is %s:\n%v\nnot synced:\n%s",
				m, o.words, state.Name, wrong, strings.Join(o.disk.Unsynced(), "\n"))
			return
		}
	}
}

// recovered recovers after a power failure, and returns which promise is broken.
func (o *oracle) recovered(ctx context.Context, p place) (broken error) {
	var said bytes.Buffer
	defer func() {
		if broken != nil {
			broken = fmt.Errorf("%w\n%s", broken, said.String())
		}
	}()
	resources, err := p.resources()
	if err != nil {
		return err
	}
	m, err := txn.Open(ctx, txn.Options{
		LogDir: p.dir("log"), ClaimDir: p.dir("claims"), MachineID: "m1", Resources: resources, Program: "after the cut",
		Logger: slog.New(slog.NewTextHandler(&said, nil)),
	})
	if err != nil {
		return err
	}
	defer func() { broken = errors.Join(broken, m.Close(ctx)) }()
	if err := m.Scan(ctx); err != nil {
		return err
	}
	txn.Retry(m, ctx)
	if err := o.compare(ctx, p, m); err != nil {
		return err
	}
	if err := m.Scan(ctx); err != nil {
		return err
	}
	txn.Retry(m, ctx)
	if left := p.untidy(); len(left) > 0 {
		return fmt.Errorf("left: %q", left)
	}
	if strings.Contains(said.String(), "level=ERROR") {
		return errors.New("recovery reports an error")
	}
	return nil
}

// compare compares what is there with what was promised, and decides what is in doubt.
func (o *oracle) compare(ctx context.Context, p place, m *txn.Manager) error {
	list, err := m.List(ctx)
	if err != nil {
		return err
	}
	doubt := map[string]bool{}
	for _, tx := range list {
		if tx.Phase == txn.Prepared {
			doubt[tx.ClientGID] = true
		} else if !tx.Phase.Terminal() {
			return fmt.Errorf("%s is still %s", tx.Name(), tx.Phase)
		}
	}
	s := m.NewSession(alice)
	for gid := range doubt {
		if tx := o.named(gid); tx == nil || tx.may&open == 0 {
			return fmt.Errorf("%s is in doubt", gid)
		}
		if err := s.CommitPrepared(ctx, gid); err != nil {
			return fmt.Errorf("commit of what was in doubt: %w", err)
		}
	}
	want := map[string][]string{}
	for _, tx := range o.all {
		is := gone
		if len(tx.body) > 0 && o.delivered(p, tx) {
			is = there
			for resource, body := range tx.body {
				want[resource] = append(want[resource], body...)
			}
		}
		last := tx.gid != "" && tx == o.named(tx.gid)
		if last && doubt[tx.gid] {
			if is != there {
				return fmt.Errorf("%s: committed now, and not delivered", tx.gid)
			}
			continue
		}
		if is&tx.may == 0 {
			return fmt.Errorf("%q %v: found %d, promised %d", tx.gid, tx.body, is, tx.may)
		}
		if !last || is == there {
			continue
		}
		if err := s.CommitPrepared(ctx, tx.gid); tx.begun && (err == nil || o.forgotten(tx) && !errors.Is(err, txn.ErrUnknownGID)) {
			return fmt.Errorf("%s: COMMIT PREPARED of what is not there is answered with %w", tx.gid, err)
		}
	}
	for _, resource := range []string{"a", "b"} {
		got, err := p.inNew(resource)
		if err != nil {
			return err
		}
		slices.Sort(got)
		slices.Sort(want[resource])
		if !slices.Equal(got, want[resource]) {
			return fmt.Errorf("delivered in %s: %q, want %q", resource, got, want[resource])
		}
	}
	return s.Acknowledge()
}

// forgotten tells whether an earlier outcome of that name was forgotten. It was so durably, before anybody could see that
// the name is given away again.
func (o *oracle) forgotten(tx *promised) bool {
	return slices.ContainsFunc(o.all, func(other *promised) bool { return other != tx && other.gid == tx.gid && other.acked })
}

// delivered tells whether any of a transaction's messages is there.
func (o *oracle) delivered(p place, tx *promised) bool {
	for resource, body := range tx.body {
		got, _ := p.inNew(resource)
		if slices.ContainsFunc(body, func(b string) bool { return slices.Contains(got, b) }) {
			return true
		}
	}
	return false
}

// whole checks the model itself: with all that was done, the disk is as the directories are.
func (o *oracle) whole(t *testing.T) {
	t.Helper()
	to := newFastPlace(t)
	for state := range o.disk.States() {
		if state.Name != "all" && len(o.disk.Unsynced()) > 0 {
			continue
		}
		if err := state.Restore(map[string]string{o.p.dir("log"): to.dir("log"), o.p.dir("a"): to.dir("a"), o.p.dir("b"): to.dir("b")}); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"log", "a", "b"} {
			if out, err := exec.CommandContext(t.Context(), "diff", "-r", o.p.dir(dir), to.dir(dir)).CombinedOutput(); err != nil {
				t.Errorf("the model is not what is there: %v\n%s", err, out)
			}
		}
		return
	}
}
