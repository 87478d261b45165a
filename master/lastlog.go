package master

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/fdtserver/fdt/internal/lastlog"
)

// keepLog writes down beside the configuration which transaction log serves, so that workers miss it where another or none is
// found. Only what serves counts: a worker that cannot start has no log.
func (m *Master) keepLog(c counts) {
	if m.applied == nil || m.step != Idle {
		return
	}
	log := ""
	for name, s := range c {
		if gen, _, ok := m.opt.Service.ParseWorker(name); ok && gen == m.applied.gen && s.Log != "" {
			log = s.Log
		}
	}
	if log == "" || log == m.serves {
		return
	}
	m.serves = log // tried once: a file system that cannot be written to stays so
	file := filepath.Join(m.opt.Etc, filepath.Base(lastlog.File))
	machine, err := os.ReadFile("/etc/machine-id")
	id := strings.TrimSpace(string(machine))
	was := ""
	if err == nil {
		was, err = lastlog.Read(file, id)
	}
	if err == nil && was != log {
		err = lastlog.Write(file, id, log)
	}
	if err != nil {
		m.log.Warn("it cannot be written down which transaction log serves; one that is not mounted will not be missed", "error", err)
	}
}
