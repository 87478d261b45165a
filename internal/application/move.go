package application

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fdtserver/fdt/drain"
	"github.com/fdtserver/fdt/internal/control"
	"github.com/fdtserver/fdt/internal/service"
)

// moveSuffix ends the name of the socket at which a worker takes sessions over: one that does not know that, of an older version or
// another program, has none.
const moveSuffix = ".move"

// successors lists the sockets of the other workers, those of the newest generation first, in any order: at a reload it is that one that
// serves. When the newest is taken back, its workers leave, and the one before is asked.
func successors(dir, own string) func() [][]string {
	return func() (groups [][]string) {
		of := map[int][]string{}
		entries, _ := os.ReadDir(dir) // without it there is nobody
		for _, e := range entries {
			name, ok := strings.CutSuffix(e.Name(), moveSuffix)
			gen, _, parsed := service.ParseInstance(name)
			if path := filepath.Join(dir, e.Name()); ok && parsed && path != own {
				of[gen] = append(of[gen], path)
			}
		}
		for _, gen := range slices.Backward(slices.Sorted(maps.Keys(of))) {
			rand.Shuffle(len(of[gen]), func(i, j int) { of[gen][i], of[gen][j] = of[gen][j], of[gen][i] })
			groups = append(groups, of[gen])
		}
		return groups
	}
}

// receive takes over what other workers offer, until the function that it returns is called. Without a socket nothing moves here: then
// clients are told to come anew.
func receive(ctx context.Context, server *drain.Server, path string, log *slog.Logger) (stop func()) {
	l, err := control.Listen(path)
	if err == nil {
		err = os.Chmod(path, 0o600) // nobody else's business; both sides also ask the kernel who the other is
	}
	if err != nil {
		log.WarnContext(ctx, "sessions of other workers cannot move here", "error", err)
		return func() {}
	}
	u, _ := l.(*net.UnixListener) // as Listen makes it
	var all sync.WaitGroup
	all.Go(func() { _ = server.Receive(u) }) // until it is closed
	return func() {
		_ = l.Close()
		all.Wait()
	}
}
