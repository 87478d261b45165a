package config

import (
	"strings"
	"testing"
)

// TestEndpoint is a table of what a collector's URL may be.
func TestEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:4318": "", "https://collector.example/v1/traces": "", "http://[::1]:4318/": "",
		"http://a:65535": "", "http://a:": "", "http://a:0": "no port", "http://a:99999": "no port",
		"127.0.0.1:4318": "write a URL", "grpc://a:4317": "write a URL", "http://": "write a URL", "http://a b": "write a URL", "http://:4318": "write a URL",
		"http://me:secret@a": "a password does not belong", "http://a/?key=1": "no ? and no #", "http://a/#b": "no ? and no #",
	} {
		err := checkEndpoint(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
