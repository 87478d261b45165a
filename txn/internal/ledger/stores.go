package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/fdtserver/fdt/txn/xa"
)

// storesFile is where that is kept, in the directory of the log.
const storesFile = "stores"

// Succession is what an operator has said of a store that is not found.
type Succession struct {
	Resource string      `json:"resource"`
	Was      string      `json:"was"`          // identity of the store that is not found
	Is       string      `json:"is,omitempty"` // identity of the one that carries it on; empty: none, it is lost
	At       time.Time   `json:"at"`
	User     string      `json:"user,omitempty"`
	By       xa.Operator `json:"by,omitzero"`
}

// successions reads what operators have said.
func (h *directory) successions() (list []Succession, err error) {
	raw, err := os.ReadFile(h.path(storesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err = errors.Join(err, h.fault.At("read "+storesFile)); err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.path(storesFile), err)
	}
	return list, nil
}

// Succeed adds what say returns to what operators have said of stores.
func (f *Files) Succeed(ctx context.Context, say func() ([]Succession, error)) error {
	return f.locked(ctx, "lock", func() error {
		list, err := f.dir.successions()
		var more []Succession
		if err == nil {
			more, err = say()
		}
		if err != nil {
			return err
		}
		raw, _ := json.Marshal(append(list, more...)) // never fails: texts
		return f.dir.replace(storesFile, raw)
	})
}

// Succeeded tells what was said of the store on which a branch is: whether it is lost, or carried on by store is.
func (f *Files) Succeeded(b xa.BranchID, is string) (carried, lost bool, err error) {
	list, err := f.dir.successions()
	carried, lost = SucceededIn(list, b, is)
	return carried, lost, err
}

// SucceededIn tells what a list says of the store on which a branch is: whether it is lost, or carried on by store is.
func SucceededIn(list []Succession, b xa.BranchID, is string) (carried, lost bool) {
	for _, s := range list {
		if s.Resource == b.Resource && s.Was == b.Identity {
			carried, lost = carried || s.Is != "" && s.Is == is, lost || s.Is == ""
		}
	}
	return carried, lost
}
