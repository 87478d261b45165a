package fdt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fdtserver/fdt"
	"github.com/fdtserver/fdt/internal/testwait"
)

// traced is a span as a collector gets it.
type traced struct {
	TraceID, SpanID, ParentSpanID, Name string
	Attributes                          []struct {
		Key   string
		Value struct{ StringValue, IntValue string }
	}
}

func (s traced) get(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.StringValue + a.Value.IntValue
		}
	}
	return ""
}

// TestTraces: what code does in resources is within its call or request, and says where it is done.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	all := map[string][]traced{} // by trace
	service := ""
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			ResourceSpans []struct {
				Resource   traced
				ScopeSpans []struct{ Spans []traced }
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/v1/traces" {
			t.Error(r.URL, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, r := range body.ResourceSpans {
			service = r.Resource.get("service.name") + " " + r.Resource.get("service.instance.id")
			for _, s := range r.ScopeSpans[0].Spans {
				all[s.TraceID] = append(all[s.TraceID], s)
			}
		}
	}))
	t.Cleanup(collector.Close)
	do := func(ctx context.Context, tx *fdt.Tx) error {
		a, b := tx.Postgres("bank_a"), tx.MariaDB("bank_b")
		var one int
		if _, err := a.Exec(ctx, "UPDATE account SET balance = balance"); err != nil {
			return err
		}
		if err := a.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil {
			return err
		}
		r, err := a.Query(ctx, "SELECT 1")
		if err != nil {
			return err
		}
		r.Close()
		if _, err := b.ExecContext(ctx, "UPDATE account SET balance = balance + 1 WHERE id = 2"); err != nil {
			return err
		}
		return tx.Put(ctx, "outbox", []byte("x"))
	}
	text, _ := configuration(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /do/{secret}", func(w http.ResponseWriter, r *http.Request) {
		if err := fdt.Do(r.Context(), do); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusBadGateway)
	})
	app := fdt.Test(t, text+fmt.Sprintf("trace: {endpoint: %q, service: shop}\n", collector.URL),
		fdt.Procedure("run", func(ctx context.Context, tx *fdt.Tx, _ none) (none, error) { return none{}, do(ctx, tx) }),
		fdt.HTTP("web", mux), fdt.Stream("line", func(_ context.Context, c *fdt.Conn) error {
			if err := c.Next(); err != nil {
				return err
			}
			_, err := io.WriteString(c, "traced by nobody")
			return err
		}))
	c, err := pgx.Connect(t.Context(), app.DSN("alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	const parent = "-b7ad6b7169203331-01"
	called, asked := strings.Repeat("a", 32), strings.Repeat("b", 32)
	if _, err := c.Exec(t.Context(), "CALL run() /*traceparent='00-"+called+parent+"'*/"); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, app.URL("web")+"/do/it", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Traceparent", "00-"+asked+parent)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	line, err := net.Dial("tcp", app.Address("line"))
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	if _, err := io.WriteString(line, "x"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(line)

	has := func(list []traced, name string) (found traced, ok bool) {
		i := slices.IndexFunc(list, func(s traced) bool { return s.Name == name })
		if i < 0 {
			return found, false
		}
		return list[i], true
	}
	testwait.Until(t, "both are told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		_, one := has(all[called], "CALL run")
		_, other := has(all[asked], "GET /do/{secret}")
		return one && other
	})
	mu.Lock()
	defer mu.Unlock()
	if !strings.HasPrefix(service, "shop ") || !strings.HasSuffix(service, "/1-0") || len(all) != 2 {
		t.Errorf("%s, %d traces", service, len(all))
	}
	for id, name := range map[string]string{called: "CALL run", asked: "GET /do/{secret}"} {
		root, _ := has(all[id], name)
		if root.ParentSpanID != "b7ad6b7169203331" {
			t.Errorf("%+v", root)
		}
		got := map[string]int{}
		for _, s := range all[id] {
			if s.ParentSpanID == root.SpanID {
				got[strings.TrimSpace(s.Name+" "+s.get("db.system.name"))]++
			}
			if s.get("db.system.name") != "" && (s.get("server.address") == "" || s.get("db.namespace") == "" || s.get("error.type") != "") {
				t.Errorf("%+v", s)
			}
		}
		want := map[string]int{
			"enlist bank_a postgresql": 1, "work bank_a postgresql": 3, "enlist bank_b mariadb": 1, "work bank_b mariadb": 1, "enlist outbox": 1,
			"work outbox": 1, "phase one": 1, "decision": 1, "phase two": 1,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if s, _ := has(all[asked], "GET /do/{secret}"); s.get("http.route") != "/do/{secret}" || s.get("http.request.method") != "GET" ||
		s.get("http.response.status_code") != "502" || s.get("error.type") != "502" {
		t.Errorf("%+v", s)
	}
}
