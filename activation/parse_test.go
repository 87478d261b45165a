package activation

import "testing"

// Whatever the environment says, parse returns a name per descriptor, or an error.
func FuzzParse(f *testing.F) {
	f.Add("2", "7", "a:b")
	f.Add("1", "7", "")
	f.Add("", "", "")
	f.Add("4097", "7", ":::")
	f.Add("-1", "x", "a")
	f.Fuzz(func(t *testing.T, fds, pid, names string) {
		got, err := environment{fds, pid, names}.parse(7)
		if (err == nil) != (len(got) > 0) || len(got) > maxFDs {
			t.Errorf("%d names, %v", len(got), err)
		}
	})
}
