// Package txn coordinates distributed transactions: sessions, two-phase
// commit, a durable log and recovery. Once a vote or a decision was answered,
// no crash of a worker, of all workers or of the machine takes it back; there
// is no global snapshot across resource managers, and txn imports no driver.
//
// The terms are those of X/Open XA (CAE C193) and of Gray & Reuter: a resource
// manager holds branches, a transaction is named by a gid, a branch that
// voted yes is in doubt until it is told the decision, and what the log does
// not know was aborted (presumed abort).
//
// A panic in a hook or in a resource manager's code is not recovered from: it
// ends the process, and recovery settles what was open. That costs the
// process's own clients their connections, and nobody anything else.
//
// One in-doubt transaction's flow reads top to bottom in external.go.
package txn
