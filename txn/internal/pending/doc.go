// Package pending has what one process is yet to tell the resources: what becomes of their branches, and what is to be done
// about a claim after that. Each is tried for ever, with a pause that grows; a branch that hangs keeps out none that would
// not, and a resource that does not answer is asked one thing at a time.
//
// It makes no call and knows no resource but by its name.
package pending
