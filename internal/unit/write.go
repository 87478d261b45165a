package unit

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
)

// WriteAll writes every unit that the configurations need into a directory of units, as systemd.generator(7)
// wants them: the sockets of those that serve and of those that are leaving, the latter not to be started by
// anything, the metrics' sockets of those that serve, and the workers' settings for all. It goes on after an error: a unit that is missing costs one
// listener, a directory without any costs them all.
//
// The leaving ones' sockets are written because systemd closes a socket whose unit has vanished; the master stops
// it in its own time.
func WriteAll(svc service.Service, dir string, serving, leaving []*config.Config) error {
	wants := filepath.Join(dir, svc.Sockets()+".wants")
	errs := []error{
		os.MkdirAll(wants, 0o755),
		os.MkdirAll(filepath.Dir(filepath.Join(dir, svc.DropIn())), 0o755),
	}
	files := Files(svc, serving, leaving)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(files[name]), 0o644))
	}
	var wanted []string
	for _, l := range Listeners(serving...) {
		wanted = append(wanted, SocketName(svc, l.Address))
	}
	for _, c := range serving {
		if a := c.Metrics.Address; a != nil {
			wanted = append(wanted, MetricsName(svc, *a))
		}
	}
	for _, name := range wanted {
		err := os.Symlink(filepath.Join("..", name), filepath.Join(wants, name))
		if !errors.Is(err, fs.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// WriteTemplates writes the templates of a further service's own into a directory of units: those of the default one, as the package has
// them in another directory, with its names. Below /etc they can be edited as those are. It goes on after an error.
func WriteTemplates(svc service.Service, packaged, dir string) (err error) {
	for of, name := range svc.Templates() {
		text, rerr := os.ReadFile(filepath.Join(packaged, of))
		if rerr == nil {
			text = []byte("# Written by fdt-generator: " + of + " for " + svc.String() + ". To change it: systemctl edit " + name + "\n" + svc.Unit(string(text)))
			rerr = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		err = errors.Join(err, rerr)
	}
	return err
}

// Files are the texts that WriteAll writes, by path below its directory.
func Files(svc service.Service, serving, leaving []*config.Config) map[string]string {
	files := map[string]string{svc.DropIn(): RenderWorker(svc, serving, leaving)}
	for _, l := range Listeners(slices.Concat(serving, leaving)...) {
		files[SocketName(svc, l.Address)] = RenderSocket(svc, l.Listener, l.Address)
	}
	for _, c := range serving {
		if a := c.Metrics.Address; a != nil {
			files[MetricsName(svc, *a)] = RenderMetrics(svc, *a)
		}
	}
	return files
}
