package test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/internal/scram"
)

// TestManyListeners has one reload open 200 listeners, each of which answers, and another close them.
func TestManyListeners(t *testing.T) {
	t.Parallel()
	for _, release := range releases() {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := installed(t, bed.Options{Release: release})
			var text strings.Builder
			fmt.Fprintf(&text, "users: {alice: %q}\nlisten:\n", scram.New("secret").String())
			addresses := map[string]string{}
			for i := range 100 {
				socket, port := fmt.Sprintf("/run/fdt/many-%d.sock", i), fmt.Sprintf("127.0.0.1:%d", 20000+i)
				addresses[socket], addresses[port] = "unix", "tcp"
				fmt.Fprintf(&text, "  unix%d: {address: %s, auth: trust}\n  tcp%d: {address: %q, auth: scram}\n", i, socket, i, port)
			}
			m.configure("50-many", text.String())
			begun := time.Now()
			m.must("fdtctl reload")
			t.Logf("opened in %s", time.Since(begun).Round(time.Millisecond))
			for address, network := range addresses {
				if err := m.answers(network, address); err != nil {
					t.Error(err)
				}
			}
			m.must("rm /etc/fdt/config.d/50-many.yaml")
			begun = time.Now()
			m.must("fdtctl reload")
			t.Logf("closed in %s", time.Since(begun).Round(time.Millisecond))
			m.eventually(`test "$(systemctl list-units --no-legend --state=active 'fdt-listen@*.socket' | wc -l)" = 1 && test "$(ls /run/fdt/*.sock | wc -l)" = 0`)
			m.finish()
		})
	}
}

// answers connects to a listener and has a query answered.
func (m machine) answers(network, address string) error {
	config, err := pgconn.ParseConfig("host=127.0.0.1 user=alice password=secret database=fdt sslmode=disable connect_timeout=30")
	if err != nil {
		return err
	}
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return m.bed.Dial(ctx, network, address) }
	conn, err := pgconn.ConnectConfig(m.Context(), config)
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	defer conn.Close(m.Context())
	if err := m.exec(conn, "SELECT 1"); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	return nil
}
