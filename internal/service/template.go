package service

import "strings"

// templates are the units of the default service that each further one has by other names, each an instance of a template or one itself.
// Those of the first kind are in the package, by the name of the instance, %i, so that they can be enabled; those of the second are written
// by fdt-generator, so that they can be edited.
var templates = []func(Service) string{Service.WorkerTemplate, Service.ListenTemplate, Service.MetricsTemplate}

// Templates are the names of the templates of the service's own, by those of the default one's; the default one has none but these.
func (s Service) Templates() map[string]string {
	own := map[string]string{}
	if s != Default {
		for _, name := range templates {
			own[name(Default)] = name(s)
		}
	}
	return own
}

// Unit is the text of a unit of the default service as it is for this one: with its names and directories, and with what tells its programs
// which service they are of. Comments are left out: what each line is for stands in the default one's.
func (s Service) Unit(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines.WriteString(line)
		}
	}
	renamed := []string{
		"Description=fdt", "Description=" + s.String(),
		"[Service]\n", "[Service]\nEnvironment=" + Env + "=" + s.name + "\n",
		"RuntimeDirectory=fdt-metrics\n", "RuntimeDirectory=fdt-metrics" + s.at() + "\n",
		"%t/fdt-metrics/", "%t/fdt-metrics" + s.at() + "/",
	}
	for _, name := range []func(Service) string{Service.Master, Service.Stopper, Service.Sweep, Service.Refresh, Service.Sockets, Service.Slice,
		Service.worker, Service.listen, Service.metrics, Service.Etc, Service.Run, Service.Lib} {
		renamed = append(renamed, name(Default), name(s))
	}
	return strings.NewReplacer(renamed...).Replace(lines.String())
}
