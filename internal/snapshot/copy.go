package snapshot

import (
	"errors"
	"fmt"
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
	err := os.RemoveAll(temp) // of a master that was killed at this point
	if err == nil {
		err = copyConfig(from, temp, true)
	}
	if err == nil {
		err = exchange(temp, to)
	}
	if err == nil {
		err = force(filepath.Dir(to))
	}
	return errors.Join(err, os.RemoveAll(temp)) // the old copy, or what there is of a new one
}

// exchange puts a directory in the place of another, if there is one, at once.
func exchange(temp, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Rename(temp, to)
	}
	return os.NewSyscallError("renameat2", err)
}

// copyConfig copies every file of a configuration into a new directory.
func copyConfig(from, to string, durable bool) error {
	names, err := config.Files(from)
	if err == nil {
		err = mkdir(to)
	}
	dirs := []string{to}
	for i, name := range names {
		if err == nil && i == 1 { // the first one below config.d
			dirs = append(dirs, filepath.Join(to, "config.d"))
			err = mkdir(dirs[1])
		}
		if err == nil {
			err = copyFile(filepath.Join(from, name), filepath.Join(to, name), durable)
		}
	}
	for _, dir := range dirs {
		if err == nil && durable {
			err = force(dir)
		}
	}
	return err
}

func copyFile(from, to string, durable bool) error {
	text, err := config.ReadFile(from)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return write(to, []byte(text), 0o640, durable)
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

// room is kept for the next text of a file that replace writes.
const room = 8 << 10

// replace puts a file in the place of another at once. It leaves name.new behind, with room for the next one: so a file of
// that size can be replaced again where the disk, or the memory behind /run, is full.
func replace(name string, text []byte, mode fs.FileMode) error {
	if err := swap(name, text, mode); err != nil {
		return err
	}
	_ = fill(name+unfinished, make([]byte, room), mode) // without it the next one needs room of its own
	return nil
}

// unfinished is behind the name of a file that is being written.
const unfinished = ".new"

// swap puts a whole file in the place of another, if there is one. After an error there may be an unfinished one beside it.
func swap(name string, text []byte, mode fs.FileMode) error {
	if err := fill(name+unfinished, text, mode); err != nil {
		return err
	}
	return os.Rename(name+unfinished, name)
}

// fill writes a file from its beginning, in the room that it has.
func fill(name string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Truncate(int64(len(text)))
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	return errors.Join(err, f.Close())
}

// force writes a directory's entries to disk.
func force(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
