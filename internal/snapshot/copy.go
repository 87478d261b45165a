package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fdtserver/fdt/config"
)

// Save makes directory to a durable copy of the configuration in directory from: the old copy is there until the
// new one is complete and forced to disk.
func Save(from, to string) error {
	temp := to + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := copyConfig(from, temp, true); err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	if _, err := os.Lstat(to); err == nil {
		err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
		if err != nil {
			return errors.Join(&os.LinkError{Op: "renameat2", Old: temp, New: to, Err: err}, os.RemoveAll(temp))
		}
		if err := force(filepath.Dir(to)); err != nil {
			return err
		}
		return os.RemoveAll(temp)
	}
	if err := os.Rename(temp, to); err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	return force(filepath.Dir(to))
}

// copyConfig copies every file of a configuration into a new directory.
func copyConfig(from, to string, durable bool) error {
	names, err := config.Files(from)
	if err != nil {
		return err
	}
	if err := mkdir(to); err != nil {
		return err
	}
	dirs := []string{to}
	for i, name := range names {
		if i == 1 { // the first one below config.d
			dirs = append(dirs, filepath.Join(to, "config.d"))
			if err := mkdir(dirs[1]); err != nil {
				return err
			}
		}
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := write(filepath.Join(to, name), text, 0o640, durable); err != nil {
			return err
		}
	}
	if !durable {
		return nil
	}
	for _, dir := range dirs {
		if err := force(dir); err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes a directory 0750 whatever the umask. A setgid bit that it inherits stays; it is never set here,
// for that is what RestrictSUIDSGID= of systemd.exec(5) forbids the master.
func mkdir(name string) error {
	if err := os.Mkdir(name, 0o750); err != nil {
		return err
	}
	st, err := os.Stat(name)
	if err != nil || st.Mode().Perm() == 0o750 {
		return err
	}
	return os.Chmod(name, 0o750|st.Mode()&fs.ModeSetgid)
}

// write makes a new file of that mode whatever the umask.
func write(name string, text []byte, mode fs.FileMode, durable bool) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// replace puts a file in the place of another at once.
func replace(name string, text []byte, mode fs.FileMode) error {
	temp := name + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := write(temp, text, mode, false); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, name)
}

// force writes a directory's entries to disk.
func force(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
