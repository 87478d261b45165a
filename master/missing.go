package master

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fdtserver/fdt/internal/service"
)

// madeAtBoot are the directories in Options.Run that tmpfiles.d has systemd make: without them no worker starts, and those that run
// cannot be asked.
var madeAtBoot = []string{"generation", "metrics", "txn", "worker"}

// missing says which of them are not there, and what to do; it is empty if all are.
func (m *Master) missing() string {
	var gone []string
	for _, name := range madeAtBoot {
		path := filepath.Join(string(m.opt.Run), name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, path)
		}
	}
	if gone == nil {
		return ""
	}
	return strings.Join(gone, ", ") + " missing: " + m.makes()
}

// makes is what has them made.
func (m *Master) makes() string {
	if svc := m.opt.Service; svc != service.Default {
		return "systemctl restart " + svc.String() + " makes it"
	}
	return "systemd-tmpfiles --create fdt.conf, then systemctl reload fdt"
}
