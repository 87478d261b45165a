package application

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fdtserver/fdt/pgwire"
)

// secret reads what the salts of users that do not exist are made from, as
// PostgreSQL's mock_authentication_nonce. It lasts, so that they stay; the first
// of all workers makes it.
func secret(dir string) ([]byte, error) {
	path := filepath.Join(dir, "secret")
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := newSecret(dir, path); err != nil {
			return nil, err
		}
		key, err = os.ReadFile(path)
	}
	if err == nil && len(key) != pgwire.SecretSize {
		err = fmt.Errorf("%s has %d bytes and not %d; remove it, and the next worker makes another", path, len(key), pgwire.SecretSize)
	}
	return key, err
}

// newSecret makes it, durable and whole before it has its name, unless another
// worker is faster.
func newSecret(dir, path string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "new-*") // mode 0600
	if err != nil {
		return errors.Join(err, d.Close())
	}
	key := make([]byte, pgwire.SecretSize)
	_, _ = rand.Read(key) // never fails, crypto/rand.Read
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(f.Name()), d.Sync(), d.Close())
}
