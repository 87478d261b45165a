package config

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/internal/service"
)

const controlGroups = "/sys/fs/cgroup"

// ownSlice is the cgroup of the service's slice, in which workers run, cgroups(7); beneath controlGroups.
func ownSlice() string {
	svc, _ := service.Own() // the program has seen that its name is one
	return filepath.Join("system.slice", svc.Slice())
}

// cpus is how many CPUs workers have: those that this process may run on, sched_getaffinity(2), or fewer if the slice of fdt or one
// above it allows less (AllowedCPUs=), or gives less time (CPUQuota=). A part of one counts as one.
func cpus() int { return min(runtime.NumCPU(), allowed(controlGroups, ownSlice())) }

// allowed is what a cgroup and those above it leave, up to the root of what can be seen. What cannot be read limits nothing: the
// controllers may be off, and while fdt is stopped its slice is not there.
func allowed(root, group string) int {
	least := math.MaxInt32
	for group = filepath.Clean(group); ; group = filepath.Dir(group) {
		dir := filepath.Join(root, group)
		if n, ok := quota(dir); ok {
			least = min(least, max(1, n))
		}
		if n := cpuset(dir); n > 0 {
			least = min(least, n)
		}
		if group == "." {
			return least
		}
	}
}

// quota reads cpu.max: how many microseconds in how many.
func quota(dir string) (n int, ok bool) {
	text, _ := os.ReadFile(filepath.Join(dir, "cpu.max"))
	f := strings.Fields(string(text))
	if len(f) != 2 {
		return 0, false
	}
	time, err := strconv.ParseInt(f[0], 10, 64)
	period, perr := strconv.ParseInt(f[1], 10, 64)
	if err != nil || perr != nil || period <= 0 { // "max" is no limit
		return 0, false
	}
	whole := time / period
	if time%period > 0 {
		whole++
	}
	return int(min(math.MaxInt32, whole)), true
}

// cpuset counts the list of cpuset.cpus.effective, as 0-3,8.
func cpuset(dir string) int {
	text, _ := os.ReadFile(filepath.Join(dir, "cpuset.cpus.effective"))
	n := 0
	for part := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, lerr := strconv.Atoi(to)
		if err != nil || lerr != nil || last < first {
			return 0
		}
		n += last - first + 1
	}
	return n
}
