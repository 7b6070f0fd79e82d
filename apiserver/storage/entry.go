package storage

import "sync"

// Entry is one object at one revision. All fields are set once; an entry is shared by every reader.
type Entry struct {
	Key      Key
	Revision int64  // of the change that made this state
	Value    []byte // the stored form, without metadata.resourceVersion; empty never
	Attrs    Attrs

	mu      sync.Mutex
	forms   map[Form][]byte // guarded by mu; small: one item a form in use
	settled bool            // guarded by mu; INVARIANT: settled ⇒ forms is nil
}

// Form names one encoding of an entry, so that all who want the same share it. Event is empty for the bare object.
type Form struct {
	Media   string // media type, with parameters that change the bytes
	Version string // group/version served
	Event   EventType
}

// Encoded returns the entry in the given form, calling encode at most once for all who ask for the same form before Forget;
// after Forget it encodes anew for each and keeps nothing. The bytes are shared and must not be changed. Concurrent callers of
// one recent entry wait for the one that encodes.
func (e *Entry) Encoded(f Form, encode func(*Entry) ([]byte, error)) ([]byte, error) {
	e.mu.Lock()
	if e.settled {
		e.mu.Unlock()
		return encode(e)
	}
	defer e.mu.Unlock()
	if b, ok := e.forms[f]; ok {
		return b, nil
	}
	b, err := encode(e)
	if err != nil {
		return nil, err
	}
	if e.forms == nil {
		e.forms = make(map[Form][]byte, 1)
	}
	e.forms[f] = b
	return b, nil
}

// Forget drops the shared encodings for good. The cache calls it when the entry is no longer recent, so that a list of
// everything does not leave everything behind twice.
func (e *Entry) Forget() {
	e.mu.Lock()
	e.forms, e.settled = nil, true
	e.mu.Unlock()
}
