// Package xa has the words that all packages of transactions share: how a
// transaction and its branches are named, where it stands, what was decided, and
// which errors a client is told. It does nothing and knows no other package of
// fdt; package txn has all of it under the same names.
//
// The terms are those of X/Open XA (CAE C193).
package xa
