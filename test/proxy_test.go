package test

import "strings"

// relay stands between a psql and the listener as a balancer would, and tells that its client is 192.0.2.7:4711. Its arguments are psql's.
const relay = `
import socket, subprocess, sys, threading

def pipe(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)

def serve():
    client, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", 7433), source_address=("127.0.0.2", 0))
    server.sendall(b"\r\n\r\n\0\r\nQUIT\n" + bytes.fromhex("2111000cc0000207c633640112671d09"))
    threading.Thread(target=pipe, args=(client, server), daemon=True).start()
    pipe(server, client)

listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, daemon=True).start()
port = str(listener.getsockname()[1])
sys.exit(subprocess.run(["psql", "-X", "-At", "-h", "127.0.0.1", "-p", port, "-U", "bob", "fdt"] + sys.argv[1:]).returncode)
`

// proxied: behind a balancer a session is its client's wherever an operator looks, and so is a refused login. Others come in by the same
// listener as before.
func proxied(m machine) {
	m.configure("60-proxied", `listen: {proxied: {address: "127.0.0.1:7433", proxy: [127.0.0.2]}}`)
	m.write("/root/relay.py", relay)
	m.must("systemctl reload fdt")
	const who = "SELECT client_addr, client_port FROM pg_stat_activity WHERE pid = pg_backend_pid()"
	out := m.must("PGPASSWORD=secret python3 /root/relay.py -c '" + who + `' -c '\! fdtctl sessions --json' 2>&1`)
	client, sessions, _ := strings.Cut(out, "\n")
	if client != "192.0.2.7|4711" || !strings.Contains(sessions, `"192.0.2.7:4711"`) {
		m.Error(out)
	}
	if out, err := m.try("PGPASSWORD=other python3 /root/relay.py -c '' 2>&1"); err == nil {
		m.Errorf("another password lets in: %s", out)
	}
	m.eventually("journalctl -b FDT_REMOTE=192.0.2.7:4711 -o cat | grep -q 'client refused'")
	if out := m.must("PGPASSWORD=secret psql -X -At -h 127.0.0.1 -p 7433 -U bob fdt -c '" + who + "'"); !strings.HasPrefix(out, "127.0.0.1|") {
		m.Error(out)
	}
	m.must(`python3 - <<'END'
import socket
c = socket.create_connection(("127.0.0.1", 7433), source_address=("127.0.0.2", 4712))
c.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 7433\r\n")
try:
    assert c.recv(1) == b""
except ConnectionResetError:
    pass
END`)
	m.eventually("test $(journalctl -b FDT_REMOTE=127.0.0.2:4712 -o cat | grep -c 'must begin with a PROXY header.*it is of version 1') = 1")
}
