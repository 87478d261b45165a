package bed

import (
	"fmt"
	"maps"
	"os"
	"slices"
)

// withCover makes instrumented programs leave their counters in o.Cover, whoever starts them: systemd, its
// generators (before 257, which gives them a read-only file system), or Run.
func (o Options) withCover() Options {
	if o.Cover == "" {
		o.Cover = os.Getenv("FDT_COVER")
	}
	if o.Cover == "" {
		return o
	}
	const inside = "/cover"
	files := map[string]string{
		"/etc/systemd/system.conf.d/cover.conf": fmt.Sprintf("[Manager]\nDefaultEnvironment=GOCOVERDIR=%[1]s\nManagerEnvironment=GOCOVERDIR=%[1]s\n", inside),
	}
	for _, unit := range []string{"fdt.service", "fdt-stop.service", "fdt-sweep.service", "fdt-worker@.service", "fdt-metrics@.service", "fdt-refresh.service", "fdt-txn-.service",
		"fdt@.service", "fdt-stop@.service", "fdt-sweep@.service", "fdt-worker-@.service", "fdt-metrics-@.service", "fdt-refresh@.service"} {
		files["/etc/systemd/system/"+unit+".d/cover.conf"] = fmt.Sprintf("[Service]\nReadWritePaths=%s\n", inside)
	}
	maps.Copy(files, o.Files)
	o.Files = files
	o.Binds = append(slices.Clone(o.Binds), o.Cover+":"+inside)
	o.Env = append(slices.Clone(o.Env), "GOCOVERDIR="+inside)
	return o
}
