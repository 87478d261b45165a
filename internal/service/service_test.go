package service

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shop is a further service.
var shop = Service{"shop"}

// TestNames has every name of the default service, which an upgrade finds its units and files by, and of a further one.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		of         func(Service) string
		main, more string
	}{
		{Service.Name, "", "shop"},
		{Service.String, "fdt", "fdt@shop"},
		{Service.Etc, "/etc/fdt", "/etc/fdt/shop"},
		{Service.Run, "/run/fdt", "/run/fdt@shop"},
		{Service.Lib, "/var/lib/fdt", "/var/lib/fdt@shop"},
		{Service.LastGood, "/var/lib/fdt/last-good", "/var/lib/fdt@shop/last-good"},
		{Service.Directories, "", "fdt-directories@shop.service"},
		{Service.MakeDirectories, "systemd-tmpfiles --create fdt.conf", "systemctl start fdt-directories@shop"},
		{Service.BusName, "org.fdtserver.Master1", "org.fdtserver.Master1.shop"},
		{Service.Master, "fdt.service", "fdt@shop.service"},
		{Service.Stopper, "fdt-stop.service", "fdt-stop@shop.service"},
		{Service.Sweep, "fdt-sweep.service", "fdt-sweep@shop.service"},
		{Service.Refresh, "fdt-refresh.service", "fdt-refresh@shop.service"},
		{Service.Sockets, "fdt-sockets.target", "fdt-sockets@shop.target"},
		{Service.Slice, "system-fdt.slice", `system-fdt\x2dshop.slice`},
		{Service.WorkerTemplate, "fdt-worker@.service", "fdt-worker-shop@.service"},
		{Service.ListenTemplate, "fdt-listen@.service", "fdt-listen-shop@.service"},
		{Service.MetricsTemplate, "fdt-metrics@.service", "fdt-metrics-shop@.service"},
		{Service.DropIn, "fdt-worker@.service.d/50-fdt.conf", "fdt-worker-shop@.service.d/50-fdt.conf"},
		{Service.WorkerPattern, "fdt-worker@*.service", "fdt-worker-shop@*.service"},
		{Service.SocketPattern, "fdt-listen@*.socket", "fdt-listen-shop@*.socket"},
		{Service.CompanionPattern, "fdt-listen@*.service", "fdt-listen-shop@*.service"},
		{Service.MetricsPattern, "fdt-metrics@*.socket", "fdt-metrics-shop@*.socket"},
		{func(s Service) string { return s.WorkerName(7, 1) }, "fdt-worker@7-1.service", "fdt-worker-shop@7-1.service"},
		{func(s Service) string { return s.Socket("a") }, "fdt-listen@a.socket", "fdt-listen-shop@a.socket"},
		{func(s Service) string { return s.Companion("a") }, "fdt-listen@a.service", "fdt-listen-shop@a.service"},
		{func(s Service) string { return s.Metrics("a") }, "fdt-metrics@a.socket", "fdt-metrics-shop@a.socket"},
	} {
		if c.of(Default) != c.main || c.of(shop) != c.more {
			t.Errorf("%s and %s, want %s and %s", c.of(Default), c.of(shop), c.main, c.more)
		}
	}
}

// TestApart has no service take another's units for its own.
func TestApart(t *testing.T) {
	all := []Service{Default, shop, {"shop2"}, {"worker"}}
	for _, s := range all {
		for _, o := range all {
			_, _, worker := s.ParseWorker(o.WorkerName(1, 2))
			_, companion := s.CompanionOf(o.Socket("a"))
			_, socket := s.SocketOf(o.Companion("a"))
			for _, mine := range []bool{worker, companion, socket, s.IsSocket(o.Socket("a")), s.IsMetrics(o.Metrics("a")),
				s.Owns(o.WorkerName(1, 2)), s.Owns(o.DropIn()), s.Owns(o.Socket("a")), s.Owns(o.Metrics("a"))} {
				if mine != (s == o) {
					t.Errorf("%s has units of %s: %v", s, o, mine)
				}
			}
		}
		if s.Owns(s.Master()) || s.IsSocket(s.Companion("a")) {
			t.Errorf("%s takes another unit for a listener's", s)
		}
	}
}

func TestParse(t *testing.T) {
	for _, name := range []string{"", "shop", "a_1", strings.Repeat("a", 16)} {
		if s, err := Parse(name); err != nil || s.Name() != name {
			t.Errorf("%q is %v, %v", name, s, err)
		}
	}
	for _, name := range []string{"Shop", "1a", "_a", "config.d", "a-b", "a/b", "..", "a\n", "%i", strings.Repeat("a", 17)} {
		t.Setenv(Env, name)
		if s, err := Own(); err == nil || s != Default || !strings.Contains(err.Error(), Env) {
			t.Errorf("%q is %v, %v", name, s, err)
		}
	}
	t.Setenv(Env, "shop")
	if s, err := Own(); err != nil || s != shop {
		t.Errorf("%v, %v", s, err)
	}
}

// TestKnown finds services by their configuration and by their state, and nothing else.
func TestKnown(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"etc/fdt/config.yaml", "etc/fdt/config.d/config.yaml", "etc/fdt/shop/config.yaml", "etc/fdt/tls/ca.pem", "etc/fdt/transaction-log",
		"run/fdt/state.json", "run/fdt/generation/state.json", "run/fdt@api/state.json", "run/fdt@shop/state.json", "run/fdt@Old/state.json", "run/fdt-metrics/state.json"} {
		name := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if all := Known(root); !slices.Equal(all, []Service{Default, {"api"}, shop}) {
		t.Errorf("%v", all)
	}
	if all := Known(t.TempDir()); !slices.Equal(all, []Service{Default}) {
		t.Errorf("%v", all)
	}
}

func TestWorkerNames(t *testing.T) {
	if got := Default.WorkerName(7, 0); got != "fdt-worker@7-0.service" {
		t.Errorf("worker 0 of generation 7 is %s", got)
	}
	for name, want := range map[string][3]int{
		"fdt-worker@7-0.service":    {7, 0, 1},
		"fdt-worker@12-345.service": {12, 345, 1},
		"fdt-worker@7-0.socket":     {}, "fdt-worker@7.service": {}, "fdt-worker@-7-0.service": {}, "fdt-worker@7--1.service": {},
		"fdt-worker@07-0.service": {}, "fdt-worker@7-+1.service": {}, "fdt-worker@.service": {}, "fdt-listen@7-0.service": {},
		"fdt-worker@7-0-1.service": {}, "fdt-worker@99999999999999999999-0.service": {}, "": {},
	} {
		gen, slot, ok := Default.ParseWorker(name)
		if gen != want[0] || slot != want[1] || ok != (want[2] == 1) {
			t.Errorf("%s is worker %d of generation %d, %v", name, slot, gen, ok)
		}
	}
}

// FuzzParseWorker: whatever is accepted is exactly what WorkerName writes.
func FuzzParseWorker(f *testing.F) {
	for _, s := range []string{"fdt-worker@7-0.service", "fdt-worker@-1-0.service", "fdt-worker@07-1.service", "fdt-worker@1.service"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if gen, slot, ok := Default.ParseWorker(name); ok && (Default.WorkerName(gen, slot) != name || gen < 0 || slot < 0) {
			t.Errorf("%q is worker %d of generation %d", name, slot, gen)
		}
	})
}

func TestLogsBeside(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"fdt/txn", "fdt@shop/txn", "fdt@bank", "fdt@Shop-2/txn", "fdt-metrics/txn"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(root, name) }
	for lib, want := range map[string]map[string]string{
		"fdt":      {at("fdt@shop/txn"): "fdt@shop: fdtctl --service shop txn"},
		"fdt@shop": {at("fdt/txn"): "fdt: fdtctl txn"},
		"none":     {at("fdt/txn"): "fdt: fdtctl txn", at("fdt@shop/txn"): "fdt@shop: fdtctl --service shop txn"},
	} {
		if got := LogsBeside(at(lib)); !maps.Equal(got, want) {
			t.Errorf("beside %s: %v", lib, got)
		}
	}
}
