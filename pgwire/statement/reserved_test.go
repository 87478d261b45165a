package statement_test

import (
	"strings"
	"testing"

	"github.com/fdtserver/fdt/config"
	"github.com/fdtserver/fdt/pgwire/statement"
)

// A procedure may have a name if, and only if, CALL takes it.
func TestReservedNames(t *testing.T) {
	for word := range strings.FieldsSeq(config.Reserved + "authorization inner like verbose transfer") {
		_, err := statement.Parse("CALL " + word + "()")
		if allowed := config.CheckProcedureName(word) == nil; allowed != (err == nil) {
			t.Errorf("%s: allowed %t, and CALL says %v", word, allowed, err)
		}
	}
}
