package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fdtserver/fdt/internal/bed"
	"github.com/fdtserver/fdt/internal/testwait"
	"github.com/fdtserver/fdt/test/load"
)

// TestServices has three services on one host: the transaction server, which is the default one, gunicorn by the name shop, and another
// transaction server, bank.
func TestServices(t *testing.T) {
	t.Parallel()
	for _, release := range releases() {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			path := deb(t, "FDT_DEB")
			m := services{installed(t, bed.Options{Release: release, Disk: true})}
			m.Run("Start", services.start)
			if m.Failed() {
				return
			}
			m.Run("Own", services.own)
			m.Run("Reload", services.reload)
			m.Run("Failure", services.failure)
			m.Run("Contested", services.contested)
			m.Run("Idle", services.idle)
			m.Run("Stop", services.stop)
			m.Run("Upgrade", func(m services) { m.upgrade(path) })
			m.Run("Reboot", services.reboot)
			m.Run("Purge", services.purge)
		})
	}
}

// services is the machine with its services.
type services struct{ machine }

// Run runs a subtest with the machine as its own.
func (m services) Run(name string, f func(m services)) bool {
	m.Helper()
	return m.machine.Run(name, func(m machine) { f(services{m}) })
}

// shopConfig and bankConfig are the configurations of further services, with a listener at an address.
func shopConfig(address string) string {
	return quick + "listen: {web: {address: \"" + address + "\", auth: program}}\n"
}

func bankConfig(address string) string {
	return quick + `
listen: {vault: {address: "` + address + `", auth: peer}}
resources: {outbox: {type: spool, directory: /var/lib/fdt@bank/outbox}}
procedures: {enqueue: {parameters: {body: text}, steps: [{on: outbox, put: ":body"}]}}
metrics: {address: "127.0.0.1:9433"}
`
}

const (
	shopAddress = "127.0.0.1:8080"
	bankAddress = "/run/fdt@bank/.s.PGSQL.7432"
)

// workersOf are the names of a service's running workers, each with its process, by the pattern of their units.
func (m services) workersOf(pattern string) string {
	m.Helper()
	return m.must("for w in $(systemctl list-units --plain --no-legend --state=active '" + pattern + "' | awk '{print $1}'); do echo $w $(systemctl show -P MainPID $w); done")
}

func (m services) workersOfAll() (fdt, shop, bank string) {
	m.Helper()
	return m.workersOf("fdt-worker@*"), m.workersOf("fdt-worker-shop@*"), m.workersOf("fdt-worker-bank@*")
}

// serve has each service asked once.
func (m services) serve() {
	m.Helper()
	m.must(`psql -qh /run/fdt -p 7432 -c "CALL enqueue('to fdt')" && psql -qh /run/fdt@bank -p 7432 -c "CALL enqueue('to the bank')" && curl -fsS http://127.0.0.1:8080/pen | grep -q '^/pen from process'`)
}

// loads drive the default service and the shop, until the returned function is called, which demands that nothing was lost.
func (m services) loads() (more func(), end func()) {
	m.Helper()
	all := []*load.Load{
		load.Sessions(m.Context(), load.Target{Network: "unix", Address: "/run/fdt/.s.PGSQL.7432", User: "root", Dial: m.bed.Dial}, 4, 10*time.Millisecond),
		load.Requests(m.Context(), load.Target{Network: "tcp", Address: shopAddress, Dial: m.bed.Dial}, 4, 10*time.Millisecond),
	}
	more = func() {
		m.Helper()
		for _, l := range all {
			n := l.Progress()
			testwait.Until(m, "calls go on", func() bool { return l.Progress() > n+20 })
		}
	}
	return more, func() {
		m.Helper()
		for _, l := range all {
			books := l.Stop()
			if lost := books.Lost(); len(lost) > 0 || len(books.Calls) == 0 {
				m.Errorf("of %d calls %d are lost, the first by %v", len(books.Calls), len(lost), lost[:min(1, len(lost))])
			}
			m.Logf("%s", books.Summary())
		}
	}
}

// start: a directory and one command make a service, whose workers can be edited.
func (m services) start() {
	m.must("mkdir -p /etc/fdt/shop /etc/fdt/bank /srv/app && cp /usr/share/doc/fdt/examples/gunicorn/* /srv/app")
	m.write("/etc/fdt/shop/config.yaml", shopConfig(shopAddress))
	m.write("/etc/fdt/bank/config.yaml", bankConfig(bankAddress))
	m.write("/srv/editor", "#!/bin/sh\nfor f; do :; done\ncp /srv/app/fdt-worker.conf \"$f\"\n")
	m.must("chmod +x /srv/editor; systemctl daemon-reload; SYSTEMD_EDITOR=/srv/editor script -qec 'systemctl edit fdt-worker-shop@.service' /dev/null")
	before := m.workersOf("fdt-worker@*")
	m.must("systemctl enable --now fdt@shop fdt@bank")
	m.serve()
	if now := m.workersOf("fdt-worker@*"); now != before {
		m.Errorf("the workers of fdt were\n%s\nand are\n%s", before, now)
	}
	for name, of := range map[string]string{"shop": "--service shop", "bank": "--service=bank"} {
		if got := m.must("fdtctl " + of + " status --json | tr -d ' \\n' | grep -o 'fdt-worker[a-z-]*@' | sort -u; FDT_SERVICE=" + name + " fdtctl status | grep -o '2/2 workers'; fdtctl " + of + " ready"); got != "fdt-worker-"+name+"@\n2/2 workers\nready" {
			m.Errorf("the status of %s: %s", name, got)
		}
		units := m.must("systemctl list-units --plain --no-legend 'fdt*@" + name + ".*' 'fdt-*-" + name + "@*' | awk '{print $1}' | grep -v target")
		for unit := range strings.FieldsSeq(units) {
			if got := m.must("systemctl show -P Slice '" + unit + "'"); got != `system-fdt\x2d`+name+".slice" {
				m.Errorf("%s is in %s", unit, got)
			}
		}
		if n := len(strings.Fields(units)); n < 6 { // master, stopper, two workers, a listener, its companion
			m.Errorf("the units of %s are %s", name, units)
		}
	}
	if got := m.must("readlink /proc/$(systemctl show -P MainPID fdt-worker-shop@1-1)/exe"); !strings.Contains(got, "python3") {
		m.Errorf("the shop's workers run %s", got)
	}
	if out, err := m.try("systemd-analyze verify --man=no fdt@shop.service fdt-stop@shop.service fdt-sweep@shop.service fdt-sockets@shop.target /run/systemd/generator/fdt-{worker,listen,metrics}-shop@.service 2>&1"); err != nil || out != "" {
		m.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if got := m.must("journalctl -b -q -u 'fdt*' -p warning"); got != "" {
		m.Errorf("complaints: %s", got)
	}
	if out, err := m.try("fdtctl --service nobody status 2>&1"); err == nil || !strings.Contains(out, "there is no service nobody, as there is no /etc/fdt/nobody/config.yaml; there is fdt, fdt@bank, fdt@shop") {
		m.Errorf("the status of no service: %v, %s", err, out)
	}
	if out, err := m.try("timeout 60 systemctl start fdt@nobody 2>&1"); err == nil || !strings.Contains(out, "Assertion failed") {
		m.Errorf("a service without a configuration starts: %v, %s", err, out)
	}
	if got := m.must("systemctl list-units --plain --no-legend 'fdt*@nobody.*'"); got != "" {
		m.Errorf("of no service there is\n%s", got)
	}
	if got := m.must("ls -d /run/fdt@* /var/lib/fdt@*"); got != "/run/fdt@bank\n/run/fdt@shop\n/var/lib/fdt@bank\n/var/lib/fdt@shop" {
		m.Errorf("there are\n%s", got)
	}
}

// own: each has its state, its log of transactions, its metrics, and directories that are as closed as the default one's.
func (m services) own() {
	m.must(`psql -qh /run/fdt@bank -p 7432 -c BEGIN -c "CALL enqueue('promised')" -c "PREPARE TRANSACTION 'order-1'"`)
	if got := m.must("fdtctl txn list; fdtctl --service shop txn list"); strings.Contains(got, "order-1") {
		m.Errorf("others know of the bank's transaction: %s", got)
	}
	if out, err := m.try("fdtctl txn commit order-1 2>&1"); err == nil {
		m.Errorf("fdt commits it: %s", out)
	}
	m.must("fdtctl --service bank txn list | grep -q order-1 && fdtctl --service bank txn commit order-1 && grep -q promised /var/lib/fdt@bank/outbox/new/*")
	if got := m.must("fdtctl --service bank check --live; fdtctl check /etc/fdt/shop; FDT_SERVICE=shop fdtctl check /etc/fdt/; fdtctl check --live; fdtctl --service bank sessions"); strings.Count(got, "is valid") != 4 || !strings.Contains(got, "/etc/fdt/bank is valid") {
		m.Errorf("%s", got)
	}
	if got := m.must("curl -fsS http://127.0.0.1:9433/metrics | grep -E '^fdt_(master_up|rollouts_total.*applied.*) '; ls /run/fdt-metrics@bank; ls -d /run/fdt-metrics 2>&1 || true"); !strings.Contains(got, "fdt_master_up 1") || !strings.Contains(got, "tcp4-127.0.0.1-9433.json") {
		m.Errorf("the bank's metrics: %s", got)
	}
	m.must("runuser -u fdt -- fdtctl --service bank status | grep -q 2/2")
	for _, who := range []string{"fdt", "nobody"} {
		if out, err := m.try("runuser -u " + who + " -- fdtctl --service bank reload 2>&1"); err == nil || !strings.Contains(out, "only root may do this") {
			m.Errorf("%s reloads the bank: %v, %s", who, err, out)
		}
	}
	list := func(at string) string {
		return m.must("cd " + at + " && stat -c '%a %U %G %n' . * | grep -v -e outbox -e '\\.removed'")
	}
	for dir, of := range map[string]string{"/run/fdt@bank": "/run/fdt", "/var/lib/fdt@bank": "/var/lib/fdt"} {
		if got, want := list(dir), list(of); got != want {
			m.Errorf("%s has\n%s\nand not, as %s\n%s", dir, got, of, want)
		}
	}
}

// reload: under load on both, each is reloaded, and only its own workers are exchanged.
func (m services) reload() {
	more, end := m.loads()
	defer end()
	for _, service := range []string{"fdt@shop", "fdt", "fdt@shop", "fdt"} {
		more()
		fdt, shop, bank := m.workersOfAll()
		m.must("timeout 120 systemctl reload " + service)
		more()
		nowFDT, nowShop, nowBank := m.workersOfAll()
		if (nowFDT == fdt) != (service != "fdt") || (nowShop == shop) != (service == "fdt") || nowBank != bank {
			m.Errorf("a reload of %s: the workers were\n%s\n%s\n%s\nand are\n%s\n%s\n%s", service, fdt, shop, bank, nowFDT, nowShop, nowBank)
		}
	}
	// At once, and each tells of its own: it is the fourth generation of the one and the second of the other.
	shop := m.must("fdtctl --service bank reload >/srv/bank & fdtctl --service shop reload; wait $!")
	bank := m.must("cat /srv/bank")
	if !strings.HasSuffix(shop, "generation 4 serves") || !strings.HasSuffix(bank, "generation 2 serves") || strings.Contains(shop, "generation 2:") || strings.Contains(bank, "generation 4:") {
		m.Errorf("the reload of the shop tells\n%s\nand that of the bank\n%s", shop, bank)
	}
}

// failure: what fails in one disturbs no other.
func (m services) failure() {
	fdt, _, bank := m.workersOfAll()
	undisturbed := func(by string) {
		m.Helper()
		if nowFDT, _, nowBank := m.workersOfAll(); nowFDT != fdt || nowBank != bank {
			m.Errorf("%s: the workers were\n%s\n%s\nand are\n%s\n%s", by, fdt, bank, nowFDT, nowBank)
		}
		m.serve()
	}
	m.write("/etc/fdt/shop/config.yaml", "wrokers: {}\n")
	if out, err := m.try("systemctl daemon-reload; fdtctl --service shop reload 2>&1"); err == nil || !strings.Contains(out, `/etc/fdt/shop/config.yaml:1:1: there is no key "wrokers"`) {
		m.Errorf("with a fault: %v, %s", err, out)
	}
	m.must("fdtctl check")
	undisturbed("a fault in the configuration of the shop")

	m.write("/etc/fdt/shop/config.yaml", shopConfig(shopAddress))
	m.must("mv /srv/app/app.py /srv/app/kept.py && echo 'import nowhere' >/srv/app/app.py")
	if out, err := m.try("timeout 120 fdtctl --service shop reload 2>&1"); err == nil || !strings.Contains(out, "nowhere") {
		m.Errorf("with an application that cannot be imported: %v, %s", err, out)
	}
	undisturbed("a worker of the shop that cannot start")
	m.must("mv /srv/app/kept.py /srv/app/app.py && systemctl kill --kill-whom=main --signal=KILL 'fdt-worker-shop@*' fdt@shop")
	m.eventually("grep -q 2/2 <<<$(fdtctl --service shop status)")
	undisturbed("the death of the shop")
	m.must("systemctl reload fdt@shop")
}

// contested: what two services want is a fault that names both, and the one that has it keeps it.
func (m services) contested() {
	for _, c := range []struct {
		service, file, text, back string
		words                     []string
	}{
		{"shop", "/etc/fdt/shop/config.yaml", shopConfig("/run/fdt/.s.PGSQL.7432"), shopConfig(shopAddress), []string{"fdt@shop (listen.web.address)", "fdt (listen.local.address)"}},
		{"shop", "/etc/fdt/shop/config.yaml", shopConfig(shopAddress) + "resources: {outbox: {type: spool, directory: /var/lib/fdt@bank/outbox}}\n", shopConfig(shopAddress), []string{"fdt@shop (resources.outbox.directory)", "fdt@bank (resources.outbox.directory)"}},
		{"bank", "/etc/fdt/bank/config.yaml", strings.Replace(bankConfig("0.0.0.0:8080"), "auth: peer", "auth: program", 1), bankConfig(bankAddress), []string{"fdt@bank (listen.vault.address)", "fdt@shop (listen.web.address)"}},
		{"", "/etc/fdt/config.d/30-more.yaml", "metrics: {address: \"127.0.0.1:9433\"}\n", "", []string{"fdt (metrics.address)", "fdt@bank (metrics.address)"}},
	} {
		m.write(c.file, c.text)
		for _, command := range []string{"check", "reload"} {
			out, err := m.try("timeout 120 fdtctl --service=" + c.service + " " + command + " 2>&1")
			for _, words := range append(c.words, "two services want") {
				if err == nil || !strings.Contains(out, words) {
					m.Errorf("%s of %q: %v, without %q: %s", command, c.service, err, words, out)
				}
			}
		}
		// The others, which have what is contested, do not notice, nor at a restart.
		for _, other := range []string{"fdt", "fdt@shop"} {
			if other != strings.TrimSuffix("fdt@"+c.service, "@") {
				m.must("timeout 120 systemctl restart " + other + " && fdtctl --service=" + strings.TrimPrefix(strings.TrimPrefix(other, "fdt"), "@") + " check")
			}
		}
		m.write(c.file, c.back)
		m.serve()
		m.must("timeout 120 fdtctl --service=" + c.service + " reload")
	}
	m.must("rm /etc/fdt/config.d/30-more.yaml")

	// Whoever stops lets go of it, and starts again when the other has.
	for _, c := range []struct{ address, more, words string }{
		{shopAddress, "metrics: {address: \"" + shopAddress + "\"}\n", "fdt (metrics.address)"},
		{"/run/contested.sock", "listen: {more: {address: /run/contested.sock, auth: trust}}\n", "fdt (listen.more.address)"},
	} {
		m.write("/etc/fdt/shop/config.yaml", shopConfig(c.address))
		m.must("timeout 120 systemctl reload fdt@shop && systemctl stop fdt@shop")
		m.write("/etc/fdt/config.d/30-more.yaml", c.more)
		m.must("timeout 120 fdtctl reload")
		out, err := m.try("s=0; timeout 60 systemctl start fdt@shop || s=$?; systemctl stop fdt@shop; journalctl --sync; journalctl -q -b -o cat -u fdt@shop -n 20; exit $s")
		for _, words := range []string{"two services want " + c.address, "fdt@shop (listen.web.address)", c.words} {
			if err == nil || !strings.Contains(out, words) {
				m.Errorf("%s: a start: %v, without %q: %s", c.address, err, words, out)
			}
		}
		m.must("rm /etc/fdt/config.d/30-more.yaml; timeout 120 systemctl reload fdt && timeout 120 systemctl start fdt@shop")
		m.write("/etc/fdt/shop/config.yaml", shopConfig(shopAddress))
		m.must("timeout 120 systemctl reload fdt@shop")
		m.serve()
	}
}

// idle: what a service is configured to have nobody takes while it is stopped; who asks for it serves what it served last.
func (m services) idle() {
	m.write("/etc/fdt/config.d/30-more.yaml", "metrics: {address: \"127.0.0.1:7500\"}\n")
	m.must("timeout 120 systemctl reload fdt")
	for _, c := range []struct{ text, words, socket string }{
		{shopConfig("0.0.0.0:7500"), "two services want 0.0.0.0:7500 and 127.0.0.1:7500: fdt@shop (listen.web.address) and fdt (metrics.address)", "fdt-listen-shop@tcp4-0.0.0.0-7500.socket"},
		{quick, "say address: /run/fdt@shop/.s.PGSQL.7432", "'fdt-listen-shop@unix-*.socket'"},
	} {
		m.write("/etc/fdt/shop/config.yaml", c.text)
		for _, fdt := range []string{"start", "stop"} {
			m.must("timeout 120 systemctl " + fdt + " fdt && systemctl stop fdt@shop && timeout 120 systemctl start fdt@shop && curl -fsS http://127.0.0.1:8080/")
			for _, command := range []string{"check", "reload", "status"} {
				if out, err := m.try("timeout 120 fdtctl --service shop " + command + " 2>&1 | tr -s ' \n' ' '"); !strings.Contains(out, c.words) {
					m.Errorf("fdt after its %s: %s: %v, without %q: %s", fdt, command, err, c.words, out)
				}
			}
			if out := m.must("systemctl list-units --plain --no-legend " + c.socket); out != "" {
				m.Errorf("fdt after its %s: %s", fdt, out)
			}
		}
		m.must("timeout 120 systemctl start fdt && systemctl is-active fdt-metrics@tcp4-127.0.0.1-7500.socket && psql -qh /run/fdt -p 7432 -c \"CALL enqueue('to fdt')\"")
	}
	m.write("/etc/fdt/shop/config.yaml", shopConfig("127.0.0.1:7500"))
	if out := m.must("systemctl stop fdt fdt@shop; fdtctl check 2>&1; timeout 120 systemctl start fdt"); !strings.Contains(out, "warning: ") || !strings.Contains(out, "fdt@shop does not get it") {
		m.Errorf("a check of what another service wants: %s", out)
	}
	m.write("/etc/fdt/shop/config.yaml", shopConfig(shopAddress))
	m.must("rm /etc/fdt/config.d/30-more.yaml; timeout 120 systemctl reload fdt && timeout 120 systemctl start fdt@shop")
	m.serve()
}

// stop: a stop of one closes its listeners alone, and a restart loses no request.
func (m services) stop() {
	conn := m.open()
	fdt, _, bank := m.workersOfAll()
	m.must("systemctl stop fdt@shop")
	if out, err := m.try("curl -sS http://127.0.0.1:8080/ 2>&1"); err == nil || !strings.Contains(strings.ToLower(out), "connect") {
		m.Errorf("the shop is stopped, and a request: %v, %s", err, out)
	}
	m.eventually("[ -z \"$(systemctl list-units --plain --no-legend 'fdt*@shop.*' 'fdt-*-shop@*')\" ]") // at last what looks whether anything is left
	if out, err := m.try("fdtctl --service shop status 2>&1"); err == nil || !strings.Contains(out, "systemctl status fdt@shop") {
		m.Errorf("the status of what is stopped: %v, %s", err, out)
	}
	if now, _, nowBank := m.workersOfAll(); now != fdt || nowBank != bank {
		m.Errorf("the workers of others were\n%s\n%s\nand are\n%s\n%s", fdt, bank, now, nowBank)
	}
	if err := m.exec(conn, "COMMIT"); err != nil {
		m.Error(err)
	}
	m.must("systemctl start fdt@shop")
	m.serve()

	more, end := m.loads()
	more()
	_, shop, _ := m.workersOfAll()
	m.must("timeout 120 systemctl restart fdt@shop")
	m.eventually("! systemctl --quiet is-active " + strings.Fields(shop)[0])
	more()
	end()

	m.must("systemctl stop fdt && curl -fsS http://127.0.0.1:8080/ && ! [ -e /run/fdt/.s.PGSQL.7432 ] && systemctl start fdt")
	m.serve()
}

// upgrade: the masters of all that run are restarted, and roll their workers under load; who is stopped, or has a fault, is left as it is.
func (m services) upgrade(path string) {
	m.install(repack(m.machine, path))
	more, end := m.loads()
	more()
	masters := func() []string {
		return strings.Fields(m.must("systemctl show -P MainPID fdt fdt@shop fdt@bank"))
	}
	before := masters()
	old := strings.Fields(m.must("systemctl list-units --plain --no-legend --state=active 'fdt-worker*@*' | awk '{print $1}'"))
	m.must("apt-get install -q -y --reinstall /var/tmp/newer.deb")
	for i, pid := range masters() {
		if pid == before[i] || pid == "0" {
			m.Errorf("the masters were %v and are %v", before, masters())
		}
	}
	m.eventually("! systemctl --quiet is-active " + strings.Join(old, " "))
	more()
	end()
	m.serve()

	m.must("systemctl stop fdt@bank")
	m.write("/etc/fdt/shop/config.yaml", "wrokers: {}\n")
	before = masters()
	out := m.must("apt-get install -q -y --reinstall /var/tmp/newer.deb 2>&1")
	after := masters()
	if after[0] == before[0] || after[1] != before[1] || after[2] != "0" || !strings.Contains(out, "fdtctl --service shop check") {
		m.Errorf("the masters were %v and are %v: %s", before, after, out)
	}
	// The fault of a service that is stopped is no other's.
	m.must("systemctl stop fdt@shop fdt; systemctl start fdt fdt@bank")
	if got := m.must("journalctl -q -b -o cat -u fdt-refresh -u fdt-refresh@bank -u fdt -u fdt@bank --since=-1min | grep wrokers || true"); got != "" {
		m.Errorf("others tell of the fault: %s", got)
	}
	m.write("/etc/fdt/shop/config.yaml", shopConfig(shopAddress))
	m.must("systemctl start fdt@shop")
	m.serve()
}

// reboot: those that are enabled are there again.
func (m services) reboot() {
	if err := m.bed.Reboot(m.Context()); err != nil {
		m.Fatal(err)
	}
	m.eventually("systemctl --quiet is-active fdt && systemctl --quiet is-active fdt@shop && systemctl --quiet is-active fdt@bank")
	m.serve()
	if got := m.must("journalctl -b -q -p err -u 'fdt*'; journalctl -b -q -k | grep fdt-generator || true"); got != "" {
		m.Errorf("complaints: %s", got)
	}
	m.must("systemctl disable --now fdt@bank; systemctl start fdt-sockets@bank.target")
	m.serve() // by the first connection
}

// purge: with all of them running, nothing is left but what the administrator wrote.
func (m services) purge() {
	out := m.must("fdtctl --service bank reload >/dev/null; psql -qh /run/fdt@bank -p 7432 -c BEGIN -c \"CALL enqueue('promised')\" -c \"PREPARE TRANSACTION 'order-2'\"; apt-get purge -q -y fdt 2>&1")
	if !strings.Contains(out, "fdt@bank: these transactions are open") || !strings.Contains(out, "order-2") {
		m.Errorf("the purge says\n%s", out)
	}
	if got := m.must("systemctl list-units --plain --no-legend 'fdt*' 'system-fdt*.slice'; systemctl list-sockets --no-legend | grep fdt || true; pgrep -af '[g]unicorn|[f]dt-' || true"); got != "" {
		m.Errorf("after the purge there are\n%s", got)
	}
	found := strings.Fields(m.must("find / -xdev -path /proc -prune -o -path '/etc/systemd/system/fdt*.d' -prune -o -path /srv -prune -o -path /var/tmp -prune -o -path /tmp -prune -o -name '*fdt*' -print; find /etc/fdt -type f"))
	slices.Sort(found)
	if got := fmt.Sprint(found); got != "[/etc/fdt /etc/fdt/bank/config.yaml /etc/fdt/config.d/10-quick.yaml /etc/fdt/shop/config.yaml]" {
		m.Errorf("after the purge there are %s", got)
	}
}
