package txn

import (
	"errors"
	"io/fs"
	"strings"
)

// resourceError is what a resource answered, in one sentence: which resource, what was done, the cause. A resource that
// names itself in its own errors is named once.
type resourceError struct {
	resource, doing string
	err             error
}

// failedAt says which resource an error came from, and of what: doing may be empty. Nil for nil.
func failedAt(resource, doing string, err error) error {
	if err == nil {
		return nil
	}
	return &resourceError{resource, doing, err}
}

// Error names the resource once, then what failed.
func (e *resourceError) Error() string {
	text := e.err.Error()
	for _, kind := range []string{"resource ", "spool "} {
		text = strings.TrimPrefix(text, kind+e.resource+": ")
	}
	if e.doing != "" {
		text = e.doing + ": " + text
	}
	return "resource " + e.resource + ": " + text
}

// Unwrap returns the resource's own error.
func (e *resourceError) Unwrap() error { return e.err }

// several are errors that came together, told on one line.
type several []error

// together is errors.Join that tells them on one line, and each text once.
func together(errs ...error) error {
	var all several
	for _, err := range errs {
		if err != nil {
			all = append(all, err)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

// Error lists the texts.
func (s several) Error() string {
	var texts []string
	told := map[string]bool{}
	for _, err := range s {
		if text := err.Error(); !told[text] {
			told[text] = true
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns them all.
func (s several) Unwrap() []error { return s }

// leftAlone says why a transaction is an operator's to decide. It is an error of its own, and not a part of another's text, as
// all of that may be told to a client, and why may name files.
func leftAlone(why string) error { return errors.New("left to an operator: " + why) }

// ignoreBusy is err, but nil where somebody is at work.
func ignoreBusy(err error) error {
	if errors.Is(err, ErrBusyGID) {
		return nil
	}
	return err
}

// ignoreNotExist is err, but nil where something is not there.
func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
