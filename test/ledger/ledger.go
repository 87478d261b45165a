// Package ledger keeps what the clients of a bank were told of each transfer, and holds it against what is found in the end.
// A transfer leaves its id in several places: the audit complains of one that is in some of them only, in one twice, nowhere though it
// was acknowledged, or somewhere though its client was told that it failed.
package ledger

import (
	"fmt"
	"slices"
	"sync"
)

// Word is what is said of a transfer.
type Word string

// The words.
const (
	Try    Word = "try"    // it began
	Commit Word = "commit" // its coordinator decided so
	Abort  Word = "abort"  // likewise
	Done   Word = "done"   // it was acknowledged
	Failed Word = "failed" // its client was told that nothing was done
	Odd    Word = "odd"    // its client was told what must not be; the text follows after a space
)

// Ledger is safe for concurrent use. The zero value is ready.
type Ledger struct {
	mu    sync.Mutex
	said  map[string][]Word
	total map[Word]int
}

// Say adds a word about a transfer.
func (l *Ledger) Say(word Word, id string) { l.say(word, id, "") }

// SayOdd tells what a client of the transfer was told that must not be.
func (l *Ledger) SayOdd(id, what string) { l.say(Odd, id, what) }

func (l *Ledger) say(word Word, id, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said == nil {
		l.said, l.total = map[string][]Word{}, map[Word]int{}
	}
	l.total[word]++
	if what != "" {
		word += Word(" " + what)
	}
	l.said[id] = append(l.said[id], word)
}

// Decided returns what the transfer's coordinator decided, if it did.
func (l *Ledger) Decided(id string) (commit, decided bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	commit = slices.Contains(l.said[id], Commit)
	return commit, commit || slices.Contains(l.said[id], Abort)
}

// String counts the words.
func (l *Ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.total)
}

// Audit takes how often each place, by name, holds each transfer. It returns a complaint for whatever is wrong, and how many transfers
// are there.
func (l *Ledger) Audit(places map[string]map[string]int) (complaints []string, committed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	for id, said := range l.said {
		times, twice := 0, false
		found := map[string]int{}
		for name, p := range places {
			found[name] = p[id]
			times += min(p[id], 1)
			twice = twice || p[id] > 1
		}
		switch {
		case times != 0 && times != len(places), twice:
			complain("%s is found so often: %v, said was %q", id, found, said)
		case slices.Contains(said, Done) && times == 0:
			complain("%s was acknowledged and is nowhere, said was %q", id, said)
		case slices.Contains(said, Failed) && times != 0:
			complain("%s was rolled back and is there, said was %q", id, said)
		}
		for _, s := range said {
			if len(s) > len(Odd) && s[:len(Odd)] == Odd {
				complain("%s: a client was told what must not be: %q", id, said)
			}
		}
		if times != 0 {
			committed++
		}
	}
	for name, p := range places {
		if len(p) != committed {
			complain("%s holds %d transfers, known are %d", name, len(p), committed)
		}
	}
	if committed == 0 {
		complain("nothing was committed")
	}
	return complaints, committed
}
