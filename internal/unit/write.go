package unit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fdtserver/fdt/config"
)

// WriteAll writes every unit that the configurations need into a directory of units, as systemd.generator(7)
// wants them: the listeners of those that serve, and the workers' settings for them and for those that are leaving. It goes on after an error: a unit that is missing costs one listener, a directory without any
// costs them all.
func WriteAll(dir string, serving, leaving []*config.Config) error {
	wants := filepath.Join(dir, Sockets+".wants")
	errs := []error{
		os.MkdirAll(wants, 0o755),
		os.MkdirAll(filepath.Dir(filepath.Join(dir, DropIn)), 0o755),
	}
	for _, l := range Listeners(serving...) {
		name := SocketName(l.Address)
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(RenderSocket(l.Listener, l.Address)), 0o644))
		err := os.Symlink(filepath.Join("..", name), filepath.Join(wants, name))
		if !errors.Is(err, fs.ErrExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, os.WriteFile(filepath.Join(dir, DropIn), []byte(RenderWorker(serving, leaving)), 0o644))
	return errors.Join(errs...)
}
