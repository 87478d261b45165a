package master

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	svc := m.opt.Service
	return strings.Join(gone, ", ") + " missing: " + svc.MakeDirectories() + ", then systemctl reload " + svc.String()
}
