package config

import (
	"strings"
	"testing"
)

// TestWarnings holds what may be said and is hardly meant, each at its place.
func TestWarnings(t *testing.T) {
	text := strings.TrimPrefix(`
users: {alice: "`+verifierA+`"}
listen:
  encrypted: {address: "0.0.0.0:1", auth: scram, tls: {certificate: /c, key: /k}}
  here: {address: ["127.0.0.1:2", "[::1]:2"], auth: scram}
  open:
    address: ["127.0.0.1:3", "192.0.2.1:3"]
    auth: scram
  optional: {address: "[::]:4", auth: scram, tls: {certificate: /c, key: /k, required: false}}
  proxied: {address: "127.0.0.1:5", auth: scram, proxy: [10.0.0.0/8, "::/0"]}
  trusted: {address: /run/fdt/a, auth: trust}
  world: {address: /run/fdt/b, auth: trust, mode: 0666}
trace: {sample: 10}
`, "\n")
	dir := write(t, "config.yaml", text, "config.yml", "", "draft.YAML", "", "README", "", ".hidden.yaml", "")
	cfg, places, err := LoadPlaced(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range places.Warnings(cfg) {
		got = append(got, strings.TrimPrefix(w.Error(), dir+"/"))
		if w.Excerpt == "" && w.Line > 0 {
			t.Errorf("%s: no line is quoted", w.Error())
		}
	}
	want := []string{
		"config.yaml:6:14: what clients send to 192.0.2.1:3 and get from it crosses the network unencrypted; give listen.open the key tls",
		"config.yaml:8:88: clients may use [::]:4 without encryption; leave it out to let nobody do so",
		"config.yaml:9:57: whoever connects must begin with a PROXY header, and may claim any address by it; name the proxies' addresses",
		"config.yaml:11:51: whoever has an account on this host may connect, and is taken for any user without a proof (auth: trust, mode: 0666); leave mode out to let in the group fdt-client",
		"config.yaml:12:17: nothing is traced without trace.endpoint; give trace the key endpoint, or leave sample out",
		"config.yml: it is not read: only config.yaml and config.d/*.yaml are; move it to config.d, or away",
		"draft.YAML: it is not read: only config.yaml and config.d/*.yaml are; move it to config.d, or away",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if all := cfg.Warnings(); len(all) != 5 || !strings.HasPrefix(all[0].String(), "listen.open.address: what clients send") {
		t.Errorf("%v", all)
	}
}

// TestHidden: workers have directories of their own in place of some.
func TestHidden(t *testing.T) {
	text := `
users: {alice: "` + verifierA + `"}
listen: {p: {address: "127.0.0.1:1", auth: scram, tls: {certificate: /etc/fdt/c, key: /home/a/k, client_ca: /root/ca}}}
resources:
  s: {type: spool, directory: /tmp}
  t: {type: spool, directory: /tmpfs}
  b: {type: postgres, dsn: "host=/run/postgresql", password_file: /var/tmp/p}
  c: {type: postgres, dsn: "host=db,/tmp"}
  d: {type: postgres, dsn: "postgresql:///bank?host=/home/db"}
  e: {type: mariadb, dsn: "fdt@unix(/tmp/mysqld.sock)/b"}
  f: {type: mariadb, dsn: "fdt@tcp(/tmp)/b"}
`
	cfg, places, err := LoadPlaced(write(t, "config.yaml", text))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range cfg.Named() {
		names = append(names, n.Path+" "+n.Name)
	}
	if got, want := strings.Join(names, ", "), "listen.p.tls.certificate /etc/fdt/c, listen.p.tls.key /home/a/k, listen.p.tls.client_ca /root/ca, "+
		"resources.b.dsn /run/postgresql, resources.b.password_file /var/tmp/p, resources.c.dsn /tmp, resources.d.dsn /home/db, "+
		"resources.e.dsn /tmp/mysqld.sock, resources.s.directory /tmp, resources.t.directory /tmpfs"; got != want {
		t.Errorf("got %s", got)
	}
	for want, s := range map[string]Sandbox{
		"3:3:5:7:8:9:10": {PrivateTmp: true, ProtectHome: true}, "5:7:8:10": {PrivateTmp: true}, "3:3:9": {ProtectHome: true}, "": {},
	} {
		var lines []string
		for _, f := range places.Hidden(cfg, s) {
			lines = append(lines, strings.Split(f.Error(), ":")[1])
			if !strings.Contains(f.What, "workers do not see it") {
				t.Error(f)
			}
		}
		if got := strings.Join(lines, ":"); got != want {
			t.Errorf("%+v: lines %s, want %s", s, got, want)
		}
	}
}

// TestTexts: the files of a configuration mean the same wherever they are read.
func TestTexts(t *testing.T) {
	dir := write(t, "config.yaml", "workers: {count: 2}\n", "config.d/a.yaml", "drain: {idle: 1s}\n")
	texts, err := Texts(dir)
	if err != nil || len(texts) != 2 || texts[1].Name != dir+"/config.d/a.yaml" {
		t.Fatalf("%+v, %v", texts, err)
	}
	if cfg, err := (Program{}).Parse(texts); err != nil || cfg.Workers.Count != 2 || cfg.Drain.Idle.Seconds() != 1 {
		t.Errorf("%+v, %v", cfg, err)
	}
	if _, err := (Program{}).Parse([]Text{{"x.yaml", "drian: 1\n"}}); err == nil || !strings.HasPrefix(err.Error(), "x.yaml:1:1: ") {
		t.Error(err)
	}
	if _, err := (Program{}).Parse(nil); err == nil {
		t.Error("no file")
	}
	if _, err := Texts(dir + "/none"); err == nil {
		t.Error("no directory")
	}
	if _, err := Texts(dir + "/config.yaml"); err == nil {
		t.Error("a file in place of the directory")
	}
}
