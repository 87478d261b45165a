package master

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
)

// Refresh is what fdt-refresh.service runs before any listener opens: systemd has the units that fdt-generator wrote
// at the last daemon-reload, and /etc/fdt may have changed since. If they are others now, it has systemd read them,
// and asks again for the listeners that are being opened, some of which may be new.
//
// While fdt serves, its snapshots count and not /etc/fdt, and nothing is to be done. m must not be running.
func (m *Master) Refresh(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "fdt-refresh-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if said, err := exec.CommandContext(ctx, m.opt.Generator, "-service="+m.opt.Service.Name(), dir).CombinedOutput(); err != nil {
		m.log.Warn("fdt-generator reports a fault", "error", err, "said", string(said)) // it writes what it can
	}
	want, err := m.unitFiles(dir)
	if err != nil {
		return fmt.Errorf("read the units as they are to be: %w", err)
	}
	have, err := m.unitFiles(m.opt.Generated)
	if err != nil {
		return fmt.Errorf("read the units as they are: %w", err)
	}
	if maps.Equal(have, want) {
		return nil
	}
	m.log.Info("the configuration has changed since systemd read the units; having it read them")
	if !m.connect(ctx) {
		return context.Cause(ctx)
	}
	defer func() { _ = m.sd.Close() }()
	if err := m.sd.reload(); err != nil {
		return err
	}
	units, err := m.sd.units(m.opt.Service.Sockets())
	if err != nil {
		return err
	}
	for _, u := range units {
		if u.JobType != "start" {
			continue // a stop or the rescue mode was asked for meanwhile, or one listener alone
		}
		// In the mode "fail": what is asked for just now would be cancelled otherwise.
		err = m.sd.start(m.opt.Service.Sockets(), "fail")
	}
	if isContrary(err) {
		m.log.Info("something else was asked for meanwhile; no listener is opened", "error", err)
		return nil
	}
	return err
}
