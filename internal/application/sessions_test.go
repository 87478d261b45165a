package application

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/fdtserver/fdt/pgwire"
)

// TestActivity: whoever asks for sessions says for how long databases may be asked beside.
func TestActivity(t *testing.T) {
	for args, fails := range map[string]bool{`{}`: false, `{"within": "1s"}`: false, `{"within": 1}`: true, `{"within": "soon"}`: true} {
		list, err := activity(t.Context(), new(pgwire.Server), json.RawMessage(args))
		if (err != nil) != fails || !fails && fmt.Sprint(list) != "[]" {
			t.Errorf("%s: %v, %v", args, list, err)
		}
	}
}
