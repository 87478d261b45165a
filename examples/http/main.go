// Http runs an *http.Server as a worker, unchanged. It gets the hitless rollouts, in which no request it has accepted
// goes unanswered; the fixed concurrency is drain.Server's alone, so a limit on connections, if there is to be
// one, is the server's own.
//
// By hand: go run ./examples/http, then curl http://127.0.0.1:8080/.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/fdtserver/fdt/worker"
)

func main() {
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "%s from process %d\n", r.URL.Path, os.Getpid()) // the client may have gone
		}),
	}
	err := worker.Run(server,
		worker.WithAddress("tcp", "127.0.0.1:8080"),
		worker.WithDrainTimeout(time.Minute),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
}
