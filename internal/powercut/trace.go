// Package powercut replays what a process did to files, cut short as by a failure of power, for tests of durability.
//
// The process runs under strace(1). Its calls are played to a [Disk], which knows what fsync(2) has made durable. At any
// moment the Disk yields states in which a power failure may leave the directories: what was synced is there, and of the
// rest anything may be missing. A test restores each of them, lets recovery run there, and checks what had been promised
// by that moment. A state that is not among them may still occur: they are many, and chosen to be adverse.
package powercut

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// traced are the system calls by which package os changes files, and those that would escape notice.
const traced = "openat,open,creat,close,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate," +
	"rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir," +
	"fsync,fdatasync,sync,syncfs,sync_file_range,dup,dup2,dup3,lseek,copy_file_range,sendfile,splice"

// ErrNoStrace: the machine has no strace(1), or does not let it trace.
var ErrNoStrace = errors.New("strace cannot trace here")

// Run runs the command, whose path is absolute, and returns its calls in the order of their completion, with what it
// said. The error is the command's, as of exec.Cmd.Run, or ErrNoStrace.
func Run(cmd *exec.Cmd, dir string) (calls []Call, said string, err error) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrNoStrace, err)
	}
	file := filepath.Join(dir, "strace")
	cmd.Args = append([]string{strace, "-f", "-qq", "-xx", "-s", "33554432", "-e", "signal=none", "-e", "trace=" + traced, "-o", file, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = strace
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "ptrace") {
		return nil, "", fmt.Errorf("%w: %s", ErrNoStrace, out)
	}
	text, unread := os.ReadFile(file)
	if unread == nil {
		calls, unread = Parse(text)
	}
	return calls, string(out), errors.Join(err, unread, os.Remove(file))
}

// Call is one system call that succeeded, or the beginning of one that takes effect from there.
type Call struct {
	Name   string
	Begins bool     // it has begun; it is followed by itself without Begins, once it is done
	Thread int      // of Begins, to find the call that ends it
	Args   []string // as strace writes them, texts decoded
	Result int
}

// Parse reads what strace -f -xx wrote.
func Parse(text []byte) ([]Call, error) {
	var calls []Call
	begun := map[int]string{} // by thread
	for number := 1; len(text) > 0; number++ {
		raw, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		pid, line, ok := strings.Cut(string(raw), " ")
		thread, err := strconv.Atoi(pid)
		if !ok || err != nil {
			return nil, fmt.Errorf("strace, line %d: no thread: %.80q", number, raw)
		}
		line = strings.TrimLeft(line, " ")
		if strings.HasPrefix(line, "+++ ") || strings.HasPrefix(line, "--- ") || strings.HasSuffix(line, " <detached ...>") {
			continue // of signals, and of threads that ended in a call
		}
		if head, ok := strings.CutSuffix(line, " <unfinished ...>"); ok {
			begun[thread] = head
			c, err := parseHead(head)
			if err != nil {
				return nil, fmt.Errorf("strace, line %d: %w", number, err)
			}
			c.Begins, c.Thread = true, thread
			calls = append(calls, c)
			continue
		}
		if strings.HasPrefix(line, "<... ") {
			_, tail, ok := strings.Cut(line, " resumed>")
			if !ok {
				return nil, fmt.Errorf("strace, line %d: %.80q", number, raw)
			}
			line = begun[thread] + tail
		} else {
			c, err := parseHead(line)
			if err != nil {
				return nil, fmt.Errorf("strace, line %d: %w", number, err)
			}
			c.Begins, c.Thread = true, thread
			calls = append(calls, c)
		}
		delete(begun, thread)
		c, ok, err := parseCall(line)
		if err != nil {
			return nil, fmt.Errorf("strace, line %d: %w", number, err)
		}
		if c.Thread = thread; ok {
			calls = append(calls, c)
		}
	}
	return calls, nil
}

// parseHead reads name(arg, arg as far as it goes.
func parseHead(text string) (Call, error) {
	name, args, ok := strings.Cut(text, "(")
	if !ok || name == "" {
		return Call{}, fmt.Errorf("no call: %.80q", text)
	}
	list, _, err := parseArgs(args)
	return Call{Name: name, Args: list}, err
}

// parseCall reads name(args) = result; ok is false of a call that failed or never returned.
func parseCall(text string) (c Call, ok bool, err error) {
	name, args, _ := strings.Cut(text, "(")
	list, rest, err := parseArgs(args)
	if err != nil {
		return Call{}, false, err
	}
	_, result, found := strings.Cut(rest, "= ")
	if !found {
		return Call{}, false, fmt.Errorf("no result: %.80q", text)
	}
	result, _, _ = strings.Cut(result, " ")
	n, err := strconv.Atoi(result)
	if err != nil && result != "?" {
		return Call{}, false, fmt.Errorf("result %.80q", result)
	}
	return Call{Name: name, Args: list, Result: n}, err == nil && n >= 0, nil
}

// parseArgs reads arguments to the closing parenthesis or the end, and returns what follows.
func parseArgs(text string) (args []string, rest string, err error) {
	for text != "" {
		switch {
		case text[0] == ')':
			return args, text[1:], nil
		case strings.HasPrefix(text, ", "):
			text = text[2:]
		case text[0] == '"':
			var arg string
			if arg, text, err = parseText(text[1:]); err != nil {
				return nil, "", err
			}
			args = append(args, arg)
		default:
			end := strings.IndexAny(text, ",)")
			if end < 0 {
				end = len(text)
			}
			if end == 0 {
				return nil, "", fmt.Errorf("no argument: %.80q", text)
			}
			args = append(args, text[:end])
			text = text[end:]
		}
	}
	return args, "", nil
}

// parseText decodes \xNN to the closing quote.
func parseText(text string) (arg, rest string, err error) {
	end := strings.IndexByte(text, '"')
	if end < 0 || end%4 != 0 {
		return "", "", fmt.Errorf("not a whole text: %.80q", text)
	}
	raw := make([]byte, 0, end/4)
	for i := 0; i < end; i += 4 {
		n, err := strconv.ParseUint(text[i+2:i+4], 16, 8)
		if err != nil || text[i:i+2] != `\x` {
			return "", "", fmt.Errorf("not \\xNN: %.80q", text[i:])
		}
		raw = append(raw, byte(n))
	}
	return string(raw), text[end+1:], nil
}
