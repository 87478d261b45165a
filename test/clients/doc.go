// Package clients runs unmodified clients, as Debian, the Go proxy and npm have them, against the installed package.
// What a client does here works for everybody who uses that client; each is a short program in its own language
// below testdata.
package clients
