package unit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
	"github.com/fdtserver/fdt/internal/testgolden"
)

func load(t *testing.T, text string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tree is a directory as one text.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if e.Type()&os.ModeSymlink != 0 {
			target, err := os.Readlink(name)
			fmt.Fprintf(&b, "-- %s -> %s\n", rel, target)
			if err == nil {
				_, err = os.Stat(name) // it must lead somewhere
			}
			return err
		}
		text, err := os.ReadFile(name)
		fmt.Fprintf(&b, "-- %s\n%s", rel, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const (
	small = `
listen: {local: {address: /run/fdt/.s.PGSQL.7432, mode: 0660, group: staff}}
workers: {recycle: {memory: 512MiB}}
drain: {timeout: 1m, shutdown: 90s}
metrics: {address: "127.0.0.1:9432"}
resources: {outbox: {type: spool, directory: /var/lib/fdt/outbox}}
`
	large = `
listen:
  local: {address: [/run/fdt/.s.PGSQL.7432, "/run/my app/100%n"], auth: peer}
  public: {address: ["0.0.0.0:7432", "[::]:7432"], auth: scram, backlog: 64}
drain: {timeout: 5m1ms}
metrics: {address: "/run/fdt metrics/50%"}
resources:
  spaced: {type: spool, directory: "/srv/out box/100%"}
  bank: {type: postgres, dsn: "host=db1 dbname=a"}
users: {a: "SCRAM-SHA-256$4096:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
`
)

func TestUnits(t *testing.T) {
	for name, texts := range map[string]struct{ serving, leaving []string }{
		"default": {serving: []string{""}},
		"large":   {serving: []string{large}},
		"both":    {serving: []string{small, large}}, // the first one's rules for the address that both have
		"leaving": {serving: []string{small}, leaving: []string{large}},
		"inner":   {serving: []string{`{metrics: {address: "[::1]:9432"}, workers: {recycle: {memory: 0}}}`}},
		"huge":    {serving: []string{`workers: {recycle: {memory: 8000000TiB}}`}},
		"none":    {},
	} {
		t.Run(name, func(t *testing.T) {
			var serving, leaving []*config.Config
			for _, text := range texts.serving {
				serving = append(serving, load(t, text))
			}
			for _, text := range texts.leaving {
				leaving = append(leaving, load(t, text))
			}
			dir := t.TempDir()
			if err := WriteAll(service.Default, dir, serving, leaving); err != nil {
				t.Fatal(err)
			}
			got, file := tree(t, dir), filepath.Join("testdata", name+".golden")
			testgolden.Compare(t, file, got)
		})
	}
}

// TestWriteAllGoesOn: a file that cannot be written does not keep the others from being written.
func TestWriteAllGoesOn(t *testing.T) {
	dir := t.TempDir()
	c := load(t, large)
	first := SocketName(service.Default, Listeners(c)[0].Address)
	if err := os.Mkdir(filepath.Join(dir, first), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteAll(service.Default, dir, []*config.Config{c}, nil); err == nil {
		t.Error("no error")
	}
	for _, l := range Listeners(c)[1:] {
		if _, err := os.Stat(filepath.Join(dir, SocketName(service.Default, l.Address))); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, service.Default.DropIn())); err != nil {
		t.Error(err)
	}
	// Over its own output it writes the same again.
	if err := os.Remove(filepath.Join(dir, first)); err != nil {
		t.Fatal(err)
	}
	before := ""
	for range 2 {
		if err := WriteAll(service.Default, dir, []*config.Config{c}, nil); err != nil {
			t.Fatal(err)
		}
		if now := tree(t, dir); before != "" && now != before {
			t.Errorf("written again it is\n%s", now)
		} else {
			before = now
		}
	}
}
