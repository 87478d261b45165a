package application

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/resources"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/pgwire"
	"github.com/fdtserver/fdt/procedure"
	"github.com/fdtserver/fdt/txn"
	"github.com/fdtserver/fdt/worker"
)

// expiresSoon is how long before a certificate's end it is told.
const expiresSoon = 21 * 24 * time.Hour

// examine reads the files of a configuration, as JSON, and writes a control.Examination. It returns the exit status.
func (app *Application) examine(ctx context.Context, in io.Reader, out io.Writer, p place) int {
	var texts []config.Text
	var found control.Examination
	for _, err := range app.faults {
		fault(&found, "", err)
	}
	err := json.NewDecoder(in).Decode(&texts)
	var cfg *config.Config
	if err == nil {
		cfg, err = app.program().Parse(texts)
	}
	if err == nil {
		app.look(ctx, cfg, p, &found)
	} else if faults, ok := errors.AsType[config.Faults](err); ok {
		for _, f := range faults {
			found.Faults = append(found.Faults, control.Finding{File: f.File, Line: f.Line, Column: f.Column, What: f.What, Hint: f.Hint})
		}
	} else {
		fault(&found, "", err)
	}
	if err := json.NewEncoder(out).Encode(found); err != nil {
		return 1
	}
	return 0
}

// fault adds a fault.
func fault(found *control.Examination, path string, err error) {
	found.Faults = append(found.Faults, control.Finding{Path: path, What: strings.TrimSpace(err.Error())})
}

// look does what a worker of that configuration does before it serves, and what the master has it do before it takes over.
func (app *Application) look(ctx context.Context, cfg *config.Config, p place, found *control.Examination) {
	if err := app.agree(cfg); err != nil {
		fault(found, "listen", err)
	}
	procedures, err := procedure.Compile(cfg, app.Procedures...)
	if err != nil {
		fault(found, "procedures", err)
	}
	if err := worker.Enough(serving(cfg, new(pgwire.Server)).Descriptors(), descriptors(cfg)); err != nil {
		fault(found, "workers.threads", err)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Listen)) {
		encrypts(cfg.Listen[name], found)
	}
	// Each by itself, so that one that cannot be opened does not keep the others from being asked.
	var list []txn.Resource
	defer func() {
		for _, r := range list {
			_ = r.Close() // nothing was done there that is not over
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(cfg.Resources)) {
		alone := *cfg
		alone.Resources = map[string]config.Resource{name: cfg.Resources[name]}
		one, err := resources.Open(&alone, "", app.openers)
		if err != nil {
			fault(found, "resources."+name, err)
			continue
		}
		list = append(list, one...)
	}
	if err := app.practise(ctx, cfg, procedures, list, p, found); err != nil {
		fault(found, "", err)
	}
}

// practise has the resources that could be opened prepare a transaction and roll it back.
func (app *Application) practise(ctx context.Context, cfg *config.Config, procedures *procedure.Set, list []txn.Resource, p place, found *control.Examination) (err error) {
	decider := cfg.Transaction.Decider
	if !slices.ContainsFunc(list, func(r txn.Resource) bool { return r.Name() == decider }) {
		decider = ""
	}
	m, err := txn.Open(ctx, txn.Options{
		LogDir: filepath.Join(p.lib, "txn"), ClaimDir: filepath.Join(p.run, "txn"), LastLog: p.last, Resources: list,
		Limits: limits(&cfg.Transaction), Decider: decider, Cluster: decider != "" && cfg.Cluster.Decider == decider, Logger: slog.New(slog.DiscardHandler), Program: "fdtctl check " + service.Instance(p.gen, p.slot),
	})
	if err != nil {
		return fmt.Errorf("transaction log: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
		defer cancel()
		err = errors.Join(err, m.Close(ctx))
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, rehearsing, fmt.Errorf("no answer from the resource within %s", rehearsing))
	defer cancel()
	try := func(ctx context.Context, resource string, b txn.Branch) error {
		if procedures == nil {
			return nil
		}
		return procedures.Try(ctx, resource, b)
	}
	faults := m.Rehearse(ctx, try)
	for _, r := range list {
		path := "resources." + r.Name()
		if err := faults[r.Name()]; err != nil {
			fault(found, pathOf(err, path), err)
			continue
		}
		warnings, err := resources.CheckOne(ctx, r)
		if err != nil {
			fault(found, path, err)
		}
		for _, w := range warnings {
			found.Warnings = append(found.Warnings, control.Finding{Path: path, What: w})
		}
	}
	for _, text := range app.rehearse(ctx, m) {
		fault(found, "", errors.New(text))
	}
	return nil
}

// pathOf is where in the configuration an error of a rehearsal belongs: to the step that it tells of, or to the resource.
func pathOf(err error, resource string) string {
	if at, ok := errors.AsType[interface {
		error
		Place() (procedure string, step int)
	}](err); ok {
		name, step := at.Place()
		return fmt.Sprintf("procedures.%s.steps[%d]", name, step)
	}
	return resource
}

// encrypts looks at what a listener encrypts with.
func encrypts(l config.Listener, found *control.Examination) {
	path := "listen." + l.Name + ".tls"
	c, err := encryption(l.TLS, l.Auth)
	if err != nil {
		fault(found, path, err)
	}
	if c == nil {
		return
	}
	left, err := untilEnd(c.Certificates[0], time.Now())
	switch {
	case err != nil:
		fault(found, path+".certificate", err)
	case left < expiresSoon:
		found.Warnings = append(found.Warnings, control.Finding{Path: path + ".certificate", What: fmt.Sprintf("%s ends in %s", l.TLS.Certificate, left.Truncate(time.Hour))})
	}
}

// untilEnd returns for how long a certificate is valid; an error if it is not.
func untilEnd(c tls.Certificate, now time.Time) (time.Duration, error) {
	leaf := c.Leaf // tls.LoadX509KeyPair sets it
	switch {
	case now.After(leaf.NotAfter):
		return 0, fmt.Errorf("the certificate of %s has ended at %s: clients that check it do not connect", leaf.Subject, leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return 0, fmt.Errorf("the certificate of %s is not valid before %s", leaf.Subject, leaf.NotBefore.Format(time.RFC3339))
	}
	return leaf.NotAfter.Sub(now), nil
}
