// Package control is a worker's control socket: one JSON request line in, one JSON reply line out, then
// close. It promises an answer or an error within [Timeout] ([CheckTimeout]) to every request, and never more than
// [MaxRequest] bytes of memory for one.
//
// The socket's directory decides who may connect (see unix(7)), and so who may ask for what changes nothing. What
// changes something is for root and the process's own user, by the kernel's word for who connected.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// Timeout bounds one exchange on the serving side, from accept to close.
	Timeout = 10 * time.Second
	// CheckTimeout is the same for OpCheck, which waits for databases, on a machine that may be busy with two generations.
	CheckTimeout = 3 * Timeout
	// MaxRequest is the length in bytes, newline included, above which a request is refused.
	MaxRequest = 64 << 10
	// MaxReply is the same for a reply, checked by Call.
	MaxReply = 16 << 20
	// maxOpen is how many exchanges go on at once; further ones wait in the accept queue.
	maxOpen = 16
	// Descriptors is how many file descriptors a Server with one listener may hold at once.
	Descriptors = maxOpen + 1
	// After a failure to accept it pauses, first minPause, then twice as long each time up to maxPause.
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// Operations that fdt's own workers answer.
const (
	OpStatus  = "status"  // → Status
	OpCancel  = "cancel"  // Cancel → whether the session is here; of an older version nothing
	OpDrain   = "drain"   // Drain → nothing
	OpCheck   = "check"   // → Check
	OpMetrics = "metrics" // → meter.Worker
	// OpSessions has the texts of queries in its answer, so it is for root and the process's own user.
	OpSessions  = "sessions"  // Sessions → a list of pgwire.Activity
	OpUses      = "uses"      // → Use by resource; the worker looks first what an operator has paused: see snapshot.Dir.Pauses
	OpInterrupt = "interrupt" // Interrupt → the session's pgwire.Activity before that, null if it is not here
)

// free are the operations for whoever can connect: they change nothing, or the request brings its own proof, as a
// CancelRequest does. All others are for root and the process's own user.
var free = map[string]bool{OpStatus: true, OpMetrics: true, OpCancel: true}

// Sentinels.
var (
	// ErrUnknownOp is the serving side's answer to an operation that it has no handler for.
	ErrUnknownOp = errors.New("unknown operation")
	// ErrServerClosed is what Serve returns after Close.
	ErrServerClosed = errors.New("control: server closed")
	// ErrDenied is the serving side's answer to who may not ask for that.
	ErrDenied = errors.New("permission denied")
	// ErrStranger means that the socket is not served by the user whose directory it is in.
	ErrStranger = errors.New("another user's process answers there")
)

// Status is a worker's answer to OpStatus. Fields are only ever added.
type Status struct {
	Generation int       `json:"generation"`
	Slot       int       `json:"slot"`
	PID        int       `json:"pid"`
	State      string    `json:"state"` // starting, serving, draining
	Open       int       `json:"open"`  // connections accepted and not yet closed
	Busy       int       `json:"busy"`
	Idle       int       `json:"idle"`
	Reserve    int       `json:"reserve"` // of Open, how many wait for a slot
	Threads    int       `json:"threads"`
	Accepted   uint64    `json:"accepted"`            // since the start
	InDoubt    int       `json:"in_doubt"`            // transactions of all workers that wait for a decision
	Untold     int       `json:"untold,omitempty"`    // decided, and a resource is yet to be told by this worker
	Aside      int       `json:"aside,omitempty"`     // logs that were put aside with open transactions
	DoubtAge   float64   `json:"doubt_age,omitempty"` // seconds that the oldest of them has waited
	Since      time.Time `json:"since"`               // when State began
	Log        string    `json:"log,omitempty"`       // the transaction log
	Memory     int64     `json:"memory,omitempty"`    // resident bytes; 0: not known
	Detail     string    `json:"detail,omitempty"`

	Draining  time.Time      `json:"draining,omitzero"`   // since when it drains
	Deadline  time.Time      `json:"deadline,omitzero"`   // when what is still open then is cut; zero without a limit
	Oldest    time.Time      `json:"oldest,omitzero"`     // since when the connection is busy that is so for longest: its transaction's age
	Queues    map[string]int `json:"queues,omitempty"`    // by FileDescriptorName= of a listener, see meter.Listener
	Resources []Resource     `json:"resources,omitempty"` // by name
}

// The states of a [Resource].
const (
	ResourceUnknown     = "unknown" // not asked yet
	ResourceReachable   = "reachable"
	ResourceUnreachable = "unreachable"
	ResourceUnfit       = "unfit"   // it answers, and cannot take part in transactions
	ResourcePausing     = "pausing" // an operator has paused it, and something still uses it
	ResourcePaused      = "paused"  // nothing does, and there is no connection to it
)

// Resource is what a worker knows of one of its resources.
type Resource struct {
	Name     string    `json:"name"`
	Type     string    `json:"type"` // as in the configuration
	State    string    `json:"state"`
	Since    time.Time `json:"since,omitzero"`     // when State began, as far as this worker has seen
	Latency  float64   `json:"latency,omitempty"`  // seconds that its last answer took; 0 if there was none
	Fault    string    `json:"fault,omitempty"`    // why it is unreachable or unfit
	Warnings []string  `json:"warnings,omitempty"` // what of its settings does not suit transactions
	InUse    int       `json:"in_use"`             // connections that transactions use
	Limit    int       `json:"limit"`              // how many they may; 0 where it has none
	Waiting  int       `json:"waiting"`            // transactions that wait for one
	InDoubt  int       `json:"in_doubt"`           // transactions of all workers that wait for a decision, with a branch here
	Untold   int       `json:"untold"`             // branches that are decided, and that this worker is yet to tell it of
}

// Use is what holds a resource that can be paused, of a worker's answer to OpUses, which has them by name.
type Use struct {
	State       string `json:"state,omitempty"` // ResourcePausing or ResourcePaused
	Branches    int    `json:"branches"`        // open there, or being begun
	Untold      int    `json:"untold"`          // decided, and yet to be told there
	Connections int    `json:"connections"`     // with those of recovery and those that idle
	Waiting     int    `json:"waiting"`         // transactions that wait for the end of the pause
}

// Check is a worker's answer to OpCheck: it has had each of its resources read the procedures' statements and prepare a
// transaction, and rolled that back.
type Check struct {
	// Faults are the resources on which that failed, each with the reason.
	Faults map[string]string `json:"faults,omitempty"`
	// Places are the paths in the configuration of what they are about, likewise: the resource, or a step of a procedure.
	Places map[string]string `json:"places,omitempty"`
	// Program is what the program's own rehearsals have found, each with its place in it.
	Program []string `json:"program,omitempty"`
}

// Examination is what a program says of a configuration that it does not serve yet, when it is run with -check.
type Examination struct {
	Faults   []Finding `json:"faults,omitempty"`   // with which it would not serve
	Warnings []Finding `json:"warnings,omitempty"` // that an operator should know
}

// Finding is one of them.
type Finding struct {
	Path string `json:"path"` // of the value in the configuration
	What string `json:"what"`

	// Where it stands, as of a config.Fault, if what was read is no configuration that has paths.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// Cancel is the argument of OpCancel: a PostgreSQL CancelRequest's key, as the session's BackendKeyData
// gave it.
type Cancel struct {
	PID    uint32 `json:"pid"`
	Secret []byte `json:"secret"`
}

// Sessions is the argument of OpSessions.
type Sessions struct {
	// Within is a Go duration: so long the worker's databases may take to tell for whose locks sessions wait. Empty: they are not asked.
	Within string `json:"within,omitempty"`
}

// Interrupt is the argument of OpInterrupt: an operator cancels a session's statement, or ends the session.
type Interrupt struct {
	PID uint32 `json:"pid"` // the session's number, as in its BackendKeyData
	End bool   `json:"end"`
	By  string `json:"by"` // who asks, for the log
}

// Drain is the argument of OpDrain.
type Drain struct {
	// Within is a Go duration: connections that are still open after it are cut. Empty leaves the
	// worker's own deadline; it can only become shorter.
	Within string `json:"within,omitempty"`
	// Final says that systemd has closed the listening sockets and that every worker is to stop:
	// drain.Server.Final. It must come before anything else makes the worker drain. It is root's alone:
	// the socket that it shuts is every worker's.
	Final bool `json:"final,omitempty"`
	// FinalOn is the same for some listeners, by name: those that the next generation does not have.
	FinalOn []string `json:"final_on,omitempty"`
}

// Handler answers one operation; args is the request object, all of it, so a handler decodes the fields
// it knows. ctx ends with the exchange's time, Timeout or CheckTimeout, or when the server closes, and tells who asks: [ByRoot]. A nil
// reply is sent as null.
type Handler func(ctx context.Context, args json.RawMessage) (reply any, err error)

// Handlers maps operations to their handlers. It must not change once served.
type Handlers map[string]Handler

type response struct {
	Error string          `json:"error,omitempty"`
	Code  string          `json:"code,omitempty"`
	Reply json.RawMessage `json:"reply,omitempty"`
}

// Listen makes the socket at path with mode 0660, replacing a dead worker's. It returns an error if a
// live process serves path. The listener removes the file when closed.
func Listen(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("control: %s is served by another process", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control: remove stale socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o660)
	}
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	return l, nil
}

// Server answers requests on one or more listeners.
type Server struct {
	// Handlers are the operations; nothing else is answered.
	Handlers Handlers

	mu        sync.Mutex
	closed    bool
	listeners []net.Listener
	ctx       context.Context
	cancel    context.CancelFunc
	open      sync.WaitGroup
}

// Serve answers requests from l with h until l fails or is closed.
func Serve(l net.Listener, h Handlers) error {
	s := &Server{Handlers: h}
	err := s.Serve(l)
	return errors.Join(err, s.Close())
}

// Serve accepts from l, which it owns, until l is closed, and returns ErrServerClosed if that was by Close. A
// failure to accept passes, as a lack of descriptors does: it tries again, at most a second apart.
func (s *Server) Serve(l net.Listener) error {
	ctx, err := s.start(l)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	slots := make(chan struct{}, maxOpen)
	pause := minPause
	for {
		slots <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			<-slots
			if !wait(ctx, pause) {
				return ErrServerClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("control: %w", err)
			}
			pause = min(2*pause, maxPause)
			continue
		}
		pause = minPause
		s.mu.Lock()
		if s.closed { // Close counts on it that no exchange begins any more
			s.mu.Unlock()
			return errors.Join(ErrServerClosed, c.Close())
		}
		s.open.Go(func() {
			defer func() { <-slots }()
			s.exchange(ctx, c)
		})
		s.mu.Unlock()
	}
}

// wait returns after d, or false when ctx has ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (s *Server) start(l net.Listener) (context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrServerClosed
	}
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(context.Background())
	}
	s.listeners = append(s.listeners, l)
	return s.ctx, nil
}

// Close closes the listeners, cancels the handlers' contexts and returns when all exchanges have ended.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	listeners := s.listeners
	s.listeners = nil
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Unlock()
	var errs []error
	for _, l := range listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.open.Wait()
	return errors.Join(errs...)
}

// exchange is one connection, from the request's line to the close.
func (s *Server) exchange(ctx context.Context, c net.Conn) {
	began := time.Now()
	defer c.Close()
	_ = c.SetDeadline(began.Add(Timeout))
	// Close ends what waits for a request, and lets an answer out: it may be that of the request that the process ends on.
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	line, err := readLine(c, MaxRequest)
	if err != nil {
		if errors.Is(err, errTooLong) {
			writeLine(c, response{Error: err.Error()})
		}
		return
	}
	reply, err := s.answer(asked(ctx, c), line, func(op string) time.Time {
		limit := Timeout
		if op == OpCheck {
			limit = CheckTimeout
		}
		_ = c.SetWriteDeadline(began.Add(limit))
		return began.Add(limit)
	})
	if err != nil {
		r := response{Error: err.Error()}
		if errors.Is(err, ErrUnknownOp) {
			r.Code = "unknown_op"
		}
		writeLine(c, r)
		return
	}
	writeLine(c, response{Reply: reply})
}

// answer is the reply to a request, by the time at which that operation's exchange ends.
func (s *Server) answer(ctx context.Context, line []byte, until func(op string) time.Time) (json.RawMessage, error) {
	var req struct {
		Op string `json:"op"`
	}
	if err := json.Unmarshal(line, &req); err != nil {
		return nil, fmt.Errorf("request is not a JSON object: %w", err)
	}
	h, ok := s.Handlers[req.Op]
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrUnknownOp, req.Op)
	}
	if !free[req.Op] && !ByRoot(ctx) && !byOwn(ctx) {
		return nil, fmt.Errorf("%w: %q is for root", ErrDenied, req.Op)
	}
	ctx, cancel := context.WithDeadline(ctx, until(req.Op))
	defer cancel()
	reply, err := h(ctx, line)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(reply)
	if err != nil {
		return nil, fmt.Errorf("encode the reply: %w", err)
	}
	return b, nil
}

var errTooLong = errors.New("line too long")

// readLine reads up to the newline, which it strips.
func readLine(r io.Reader, limit int64) ([]byte, error) {
	b, err := bufio.NewReaderSize(io.LimitReader(r, limit), 1024).ReadBytes('\n')
	if err != nil {
		if errors.Is(err, io.EOF) && int64(len(b)) == limit {
			return nil, fmt.Errorf("%w: more than %d bytes", errTooLong, limit)
		}
		return nil, err
	}
	return b[:len(b)-1], nil
}

func writeLine(w io.Writer, r response) {
	b, _ := json.Marshal(r)         // what Marshal made and two strings: cannot fail
	_, _ = w.Write(append(b, '\n')) // an asker that has gone needs no answer
}

// Call sends op with the fields of args, a struct or map that encodes as a JSON object, or nil, to the
// worker at path, and decodes its answer into reply unless that is nil. An error of the other side wraps
// ErrUnknownOp where it applies. ctx bounds the whole call. Nothing is sent to a process of another user than the
// owner of the directory: who may write there could have put anybody's socket, or a link to one, in the place.
func Call(ctx context.Context, path, op string, args, reply any) error {
	if err := call(ctx, path, op, args, reply); err != nil {
		return fmt.Errorf("control: %s %s: %w", filepath.Base(path), op, err)
	}
	return nil
}

func call(ctx context.Context, path, op string, args, reply any) error {
	req, err := request(op, args)
	if err != nil {
		return err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return cause(ctx, err)
	}
	defer c.Close()
	if err := expect(c, filepath.Dir(path)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, _ = c.Write(req) // if that fails, no answer comes
	line, err := readLine(c, MaxReply)
	if err != nil {
		return cause(ctx, fmt.Errorf("no answer: %w", err))
	}
	var resp response
	if err := json.Unmarshal(line, &resp); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	switch {
	case resp.Code == "unknown_op":
		return ErrUnknownOp
	case resp.Error != "":
		return errors.New(resp.Error)
	case reply == nil:
		return nil
	}
	if err := json.Unmarshal(resp.Reply, reply); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// cause prefers the context's reason to the time-out that it provoked.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// request is args' fields with "op" added, and a newline.
func request(op string, args any) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		if err := json.Unmarshal(b, &fields); err != nil {
			return nil, fmt.Errorf("encode the request: not an object: %w", err)
		}
	}
	fields["op"], _ = json.Marshal(op) // neither of the two can fail: a string, and what was JSON
	b, _ := json.Marshal(fields)
	return append(b, '\n'), nil
}
