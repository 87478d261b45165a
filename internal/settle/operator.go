package settle

import (
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/fdtserver/fdt/internal/transient"
	"github.com/fdtserver/fdt/txn"
)

// operatorEnv carries who the operator is from root to the user that owns the
// transaction log, as the JSON of person.
const operatorEnv = "FDT_OPERATOR"

// person is who runs fdtctl, as far as that is known.
type person struct {
	User string `json:"user"`
	txn.Operator
}

// operator describes the person behind this process, for operatorEnv: who logged
// in (audit's login uid), or who called sudo.
func operator() string {
	p := person{User: "root", Operator: txn.Operator{UID: strconv.Itoa(os.Getuid()), Terminal: terminalOf(readOwn("stat"))}}
	if name := os.Getenv("SUDO_USER"); name != "" {
		p.User = name
	}
	if uid := readOwn("loginuid"); uid != "" && uid != unset {
		p.LoginUID = uid
		if u, err := user.LookupId(uid); err == nil && u.Uid != "0" {
			p.User = u.Username
		}
	}
	text, _ := json.Marshal(p) // never fails: texts
	return string(text)
}

// OperatorName is who is behind this process, as far as that is known.
func OperatorName() string {
	var p person
	_ = json.Unmarshal([]byte(operator()), &p) // that it made
	return p.User
}

// unset is the login uid of a process that nobody logged in for, (uid_t)-1.
const unset = "4294967295"

// readOwn reads a file of proc(5) about this process; empty if it cannot.
func readOwn(name string) string {
	raw, _ := os.ReadFile("/proc/self/" + name)
	return strings.TrimSpace(string(raw))
}

// terminalOf is the controlling terminal in the text of proc_pid_stat(5), whose
// seventh field is its device number; empty if there is none.
func terminalOf(stat string) string {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // behind the program's name
	if len(fields) < 5 {
		return ""
	}
	n, _ := strconv.Atoi(fields[4])
	major, minor := n>>8&0xfff, n&0xff|n>>12&0xfff00
	switch {
	case n == 0:
		return ""
	case major >= 136 && major <= 143: // Documentation/admin-guide/devices.txt: Unix98 PTY slaves
		return fmt.Sprintf("pts/%d", (major-136)<<8+minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

// asked is the principal that operatorEnv describes, or the service's own user.
func asked(env string) txn.Principal {
	p := person{User: env}
	if json.Unmarshal([]byte(env), &p) != nil || p.User == "" {
		p.User = transient.User
	}
	return txn.Principal{User: p.User, Operator: true, By: p.Operator}
}
