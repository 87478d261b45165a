package pgwire_test

import "testing"

func TestHello(t *testing.T) {
	f := newFDT(t, bank{})
	c := f.connect("alice", "application_name", "tour")
	c.answers("startup", c.hello, "R ok", "S application_name=tour", "S client_encoding=UTF8", "S DateStyle=ISO, MDY",
		"S default_transaction_read_only=off", "S in_hot_standby=off", "S integer_datetimes=on", "S IntervalStyle=postgres",
		"S is_superuser=off", "S server_encoding=UTF8", "S server_version=15.0 (fdt)", "S session_authorization=alice",
		"S standard_conforming_strings=on", "S TimeZone=UTC", "K", "Z I")
	c.want("CALL enqueue('hello')", "C CALL", "Z I")
	f.delivered("hello")
	c.want("BEGIN; CALL enqueue('a'); CALL enqueue('b')", "C BEGIN", "C CALL", "C CALL", "Z T")
	f.delivered("hello")
	c.want("COMMIT", "C COMMIT", "Z I")
	f.delivered("hello", "a", "b")
}
