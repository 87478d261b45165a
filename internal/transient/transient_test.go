package transient

import (
	"slices"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/internal/service"
)

// TestNeeded: a unit gets what the resources need; one for the workers' program what the workers may, if there are
// resources that only that knows.
func TestNeeded(t *testing.T) {
	worker := Worker{Sandbox: config.Sandbox{PrivateTmp: true, ProtectHome: true}, Program: "/usr/lib/fdt/fdt-worker"}
	worker.read("ExecStart={ path=/usr/lib/post ; argv[]=/usr/lib/post --instance=0-0 ; ignore_errors=no }\nPrivateTmp=no\nProtectHome=no\n" +
		"SupplementaryGroups=post\nReadWritePaths=/run/fdt/txn /srv/post\nLimitNOFILE=64\nPrivateNetwork=no\nRestrictAddressFamilies=AF_INET AF_UNIX\nIPAddressDeny=\n")
	if worker.Program != "/usr/lib/post" || worker.PrivateTmp || worker.ProtectHome ||
		!slices.Equal(worker.As, []string{"--property=PrivateTmp=no", "--property=ProtectHome=no", "--property=SupplementaryGroups=post", "--property=LimitNOFILE=64"}) {
		t.Errorf("%+v", worker)
	}
	own := config.Resource{Type: "letters"}
	outbox := config.Resource{Type: config.TypeSpool, Settings: &config.Spool{Directory: "/o"}}
	bank := config.Resource{Type: config.TypePostgres, Settings: &config.Postgres{Database: config.Database{DSN: "host=db"}}}
	closed := []string{"PrivateNetwork=yes", "IPAddressDeny=any", "RestrictAddressFamilies=AF_UNIX"}
	open := []string{"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"}
	theirs := []string{"PrivateNetwork=no", "RestrictAddressFamilies=AF_INET AF_UNIX"}
	paths := []string{"ReadWritePaths=/run/fdt/txn /srv/post"}
	for _, test := range []struct {
		of   []config.Resource
		by   Worker
		want [][]string
	}{
		{nil, worker, [][]string{closed}},
		{[]config.Resource{outbox}, worker, [][]string{{`ReadWritePaths="-/o"`}, closed}},
		{[]config.Resource{outbox, bank}, worker, [][]string{{`ReadWritePaths="-/o"`}, open}},
		{[]config.Resource{outbox, own}, worker, [][]string{{`ReadWritePaths="-/o"`}, theirs, paths}},
		{[]config.Resource{bank, own}, worker, [][]string{open, paths}},
		{[]config.Resource{own}, Worker{}, [][]string{closed}},
	} {
		cfg := &config.Config{Resources: map[string]config.Resource{}}
		for _, r := range test.of {
			cfg.Resources[r.Type] = r
		}
		var want []string
		for _, p := range slices.Concat(test.want...) {
			want = append(want, "--property="+p)
		}
		if got := test.by.Needed(cfg); !slices.Equal(got, want) {
			t.Errorf("%v:\n%q, want\n%q", test.of, got, want)
		}
	}
}

// TestOfService: what runs for a further service knows of which, and finds its directories.
func TestOfService(t *testing.T) {
	t.Setenv(service.Env, "")
	alone := InPipes("u", "d")
	t.Setenv(service.Env, "shop")
	want := append(slices.Clone(alone), "--setenv=FDT_SERVICE=shop", "--property=Wants=fdt-directories@shop.service", "--property=After=fdt-directories@shop.service")
	if got := InPipes("u", "d"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
