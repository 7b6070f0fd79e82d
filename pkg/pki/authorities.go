package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Bundle is what a file of authorities held when it was last read. Nobody changes it.
type Bundle struct {
	Pool *x509.CertPool
	All  []*x509.Certificate
	PEM  []byte // the file as it was
}

// Authorities are the certificates of a PEM file, by which others are verified. The file is looked at again at most once a
// second, when somebody asks; one that is not good leaves the former in force. Safe for concurrent use.
type Authorities struct {
	file string // set once
	told func(error)

	now    atomic.Pointer[Bundle]
	looked atomic.Int64 // when the file was last looked at, ns since 1970

	mu    sync.Mutex // held while looking
	stamp fileStamp  // guarded by mu
}

// NewAuthorities reads the file, so that a wrong one is an error at start. told, which may be nil, hears of every later change of
// the file: nil when it was taken, else why it was not.
func NewAuthorities(file string, told func(error)) (*Authorities, error) {
	if told == nil {
		told = func(error) {}
	}
	a := &Authorities{file: file, told: told, stamp: stampOf(file)}
	b, err := readBundle(file)
	if err != nil {
		return nil, err
	}
	a.now.Store(b)
	a.looked.Store(time.Now().UnixNano())
	return a, nil
}

// Current is what is in force at the given time, which is the present one.
func (a *Authorities) Current(now time.Time) *Bundle {
	last, at := a.looked.Load(), now.UnixNano()
	if at-last >= int64(time.Second) && a.looked.CompareAndSwap(last, at) {
		a.look()
	}
	return a.now.Load()
}

func (a *Authorities) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := stampOf(a.file)
	if s == a.stamp {
		return
	}
	a.stamp = s // one that is not good is not read again before it changes
	b, err := readBundle(a.file)
	if err == nil {
		a.now.Store(b)
	}
	a.told(err)
}

func readBundle(file string) (*Bundle, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading certificate authorities: %w", err)
	}
	all, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("reading certificate authorities from %s: %w", file, err)
	}
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	return &Bundle{pool, all, text}, nil
}

// ParseCertificates reads every certificate of a PEM text; there is at least one. An error names the line.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	rest := text
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				begin := bytes.LastIndex(text[:len(text)-len(after)], []byte("-----BEGIN"))
				return nil, fmt.Errorf("line %d: %w", 1+bytes.Count(text[:begin], []byte("\n")), err)
			}
			all = append(all, c)
		}
		rest = after
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no certificate in PEM form")
	}
	return all, nil
}
