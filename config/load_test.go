package config

import (
	"os"
	"path/filepath"
	"testing"
)

// write makes a configuration directory of files given as name, text, name, text.
func write(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadsTheInstalledFile(t *testing.T) {
	cfg, err := Load("../packaging/deb")
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Procedures["enqueue"].Steps[0].On; got != "outbox" {
		t.Errorf("enqueue puts into %q", got)
	}
}

func TestFaultsSmoke(t *testing.T) {
	_, err := Load(write(t, "config.yaml", "workers: {treads: 3, count: many}\ndrain: {timeout: 5}\nlisten:\n  a: {address: '127.0.0.1:5', auth: peer}\nprocedures:\n  f:\n    parameters: {body: txt}\n    steps: [{on: outbx, put: ':bdy'}]\nresources: {outbox: {type: spool}}\n"))
	t.Log("\n" + err.Error())
}
