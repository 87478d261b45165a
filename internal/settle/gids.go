package settle

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"github.com/fdtserver/fdt/txn"
)

// GIDs are the names that fdtctl txn takes: of the transactions that wait for somebody, or with all those that are over, too. What cannot
// be read before ctx ends is left out.
func GIDs(ctx context.Context, all bool) []string {
	var more []string
	if all {
		more = []string{"--all"}
	}
	return gids(ctx, here(), more...)
}

func gids(ctx context.Context, own *Own, more ...string) (names []string) {
	var out bytes.Buffer
	_ = txnIn(ctx, own, append([]string{"list", "--json"}, more...), &out, io.Discard) // what it has printed counts
	var list []struct {
		GID       txn.GID `json:"gid"`
		ClientGID string  `json:"client_gid"`
	}
	_ = json.Unmarshal(out.Bytes(), &list) // of nothing it is nothing
	for _, t := range list {
		names = append(names, (&txn.Transaction{GID: t.GID, ClientGID: t.ClientGID}).Name())
	}
	return names
}
