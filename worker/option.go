package worker

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"time"
)

// Option alters Run.
type Option func(*options)

type options struct {
	ctx          context.Context
	logger       *slog.Logger
	names        []string
	required     bool
	addresses    [][2]string
	own          map[string]net.Listener
	controlOn    net.Listener
	operations   map[string]Operation
	drainTimeout time.Duration
	deadline     func(time.Time)
	descriptors  int
	status       func() string
	statusEvery  time.Duration
	overtime     time.Duration
}

// WithContext makes the end of ctx as good as SIGTERM.
func WithContext(ctx context.Context) Option { return func(o *options) { o.ctx = ctx } }

// WithLogger sets the logger; the default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithListeners names the listeners to serve, by FileDescriptorName=; others that were passed are closed.
// If some are missing, the rest is served, and STATUS and the log say so; if all are, Run fails. Without
// this option, all that were passed are served.
func WithListeners(names ...string) Option { return func(o *options) { o.names = names } }

// WithRequired makes Run fail if any of the listeners named by WithListeners is missing, or one that was
// passed cannot be served.
func WithRequired() Option { return func(o *options) { o.required = true } }

// WithAddress is an address, as for net.Listen, to listen on when the process was started without
// systemd's sockets, as by hand. It may be given several times.
func WithAddress(network, address string) Option {
	return func(o *options) { o.addresses = append(o.addresses, [2]string{network, address}) }
}

// WithListener serves l, which Run then owns, when the process was started without systemd's sockets.
func WithListener(name string, l net.Listener) Option {
	return func(o *options) {
		if o.own == nil {
			o.own = make(map[string]net.Listener)
		}
		o.own[name] = l
	}
}

// Operation answers one operation of the control socket: args is the whole request, reply is encoded as JSON. Several may run at once.
type Operation = func(ctx context.Context, args json.RawMessage) (reply any, err error)

// WithControl serves the control socket l, which Run closes at the end, with the operations named; "drain" is Run's own. A request is
// a line, {"op": "drain", …}, on a connection of its own, and the answer is one: {"reply": …} or {"error": "…"}. "status", "metrics" and
// "cancel" are for whoever can connect, others for root and this process's own user; a drain that is final is for root alone.
func WithControl(l net.Listener, operations map[string]Operation) Option {
	return func(o *options) { o.controlOn, o.operations = l, operations }
}

// WithDrainTimeout bounds a drain; zero, the default, does not.
func WithDrainTimeout(d time.Duration) Option { return func(o *options) { o.drainTimeout = d } }

// WithDeadline has f told when the connections that are still open will be cut, at the beginning of a drain and whenever that
// comes nearer. Without a limit f is not called. It must not block.
func WithDeadline(f func(at time.Time)) Option { return func(o *options) { o.deadline = f } }

// WithDescriptors is how many file descriptors the program may hold at once beside what Run and the server need, such
// as files and connections to databases. Run refuses to start if RLIMIT_NOFILE is lower than the sum.
func WithDescriptors(n int) Option { return func(o *options) { o.descriptors = n } }

// WithStatus gives the part of STATUS= that the server knows, such as its number of connections. It must
// not block.
func WithStatus(f func() string) Option { return func(o *options) { o.status = f } }
