package application

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/trace"
)

// tracesPath is where a collector takes traces of which the configuration does not say where: OTLP's default.
const tracesPath = "/v1/traces"

// tracing returns what takes spans, nil where none are wanted, and what is to be called when no more will end.
func tracing(cfg *config.Config, p place, log *slog.Logger) (tracer *trace.Exporter, finish func()) {
	if cfg.Trace.Endpoint == "" {
		return nil, func() {}
	}
	endpoint, _ := url.Parse(cfg.Trace.Endpoint) // it was read already
	if endpoint.Path == "" || endpoint.Path == "/" {
		endpoint.Path = tracesPath
	}
	host, _ := os.Hostname() // else nobody's
	tracer = trace.New(trace.Options{
		Endpoint: endpoint.String(), Sample: cfg.Trace.Sample, Logger: log, Resources: places(cfg), Service: []trace.Attr{
			{Key: "service.name", Value: cfg.Trace.Service}, {Key: "service.instance.id", Value: host + "/" + service.Instance(p.gen, p.slot)},
			{Key: "host.name", Value: host}, {Key: "process.pid", Value: os.Getpid()},
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { tracer.Run(ctx) })
	return tracer, func() {
		stop()
		running.Wait()
	}
}

// places are the databases of resources, in the words of OpenTelemetry's conventions.
func places(cfg *config.Config) map[string][]trace.Attr {
	all := map[string][]trace.Attr{}
	for name, r := range cfg.Resources {
		switch s := r.Settings.(type) {
		case *config.Postgres:
			if c, err := pgconn.ParseConfig(s.DSN); err == nil { // else the resource says so
				all[name] = database("postgresql", c.Host, int(c.Port), c.Database)
			}
		case *config.MariaDB:
			if c, err := mysql.ParseDSN(s.DSN); err == nil { // likewise
				host, text, _ := net.SplitHostPort(c.Addr)
				port, _ := strconv.Atoi(text)
				if c.Net == "unix" {
					host = c.Addr
				}
				all[name] = database("mariadb", host, port, c.DBName)
			}
		}
	}
	return all
}

// database is where a database is. A unix socket is an address without a port.
func database(system, host string, port int, name string) []trace.Attr {
	all := []trace.Attr{{Key: "db.system.name", Value: system}, {Key: "server.address", Value: host}}
	if port != 0 && host != "" && host[0] != '/' {
		all = append(all, trace.Attr{Key: "server.port", Value: port})
	}
	if name != "" {
		all = append(all, trace.Attr{Key: "db.namespace", Value: name})
	}
	return all
}
