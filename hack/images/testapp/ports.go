package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// listener is one port of ports: what is spoken there and what is said.
type listener struct{ kind, port, text string }

// parseListener reads [tls:|udp:]PORT[=TEXT]. Without a text our name is said.
func parseListener(arg string) (listener, error) {
	spec, text, said := strings.Cut(arg, "=")
	if !said {
		text = hostname()
	}
	kind, port, named := strings.Cut(spec, ":")
	if !named {
		kind, port = "http", spec
	}
	if kind != "http" && kind != "tls" && kind != "udp" || port == "" {
		return listener{}, fmt.Errorf("%q: want PORT, tls:PORT or udp:PORT, and perhaps =TEXT", arg)
	}
	return listener{kind, port, text}, nil
}

// ports answers on each port it is given, whatever the path and the method: over HTTP, over HTTPS with a certificate that nobody has
// signed, or over UDP. With -json the answer over HTTP also tells how it was asked.
func ports(ctx context.Context, o options) error {
	failed := make(chan error, len(o.args))
	for _, arg := range o.args {
		l, err := parseListener(arg)
		if err != nil {
			return err
		}
		if l.kind == "udp" {
			err = l.answerUDP(ctx)
		} else {
			err = l.answerHTTP(ctx, o.json, failed)
		}
		if err != nil {
			return err
		}
		fmt.Println("answering on", l.kind, l.port)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func (l listener) answerHTTP(ctx context.Context, asJSON bool, failed chan<- error) error {
	in, err := net.Listen("tcp", ":"+l.port)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	if l.kind == "tls" {
		certificate, err := unsigned()
		if err != nil {
			return err
		}
		in = tls.NewListener(in, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.answer(w, r, asJSON) }), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0), // probes that only connect
	}
	context.AfterFunc(ctx, func() { srv.Close() })
	go func() {
		if err := srv.Serve(in); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serving: %w", err)
		}
	}()
	return nil
}

// asked is what -json answers.
type asked struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Query  string `json:"query"`
	Sent   string `json:"sent"`
	Body   string `json:"body"` // the text that is said
}

func (l listener) answer(w http.ResponseWriter, r *http.Request, asJSON bool) {
	if !asJSON {
		fmt.Fprint(w, l.text)
		return
	}
	sent, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(asked{r.Method, r.URL.Path, r.URL.RawQuery, string(sent), l.text}); err != nil {
		fmt.Fprintln(os.Stderr, "answering:", err)
	}
}

func (l listener) answerUDP(ctx context.Context) error {
	conn, err := net.ListenPacket("udp", ":"+l.port)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			_, from, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, err = conn.WriteTo([]byte(l.text), from)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "answering:", err)
			}
		}
	}()
	return nil
}

// unsigned makes a key and a certificate of nobody.
func unsigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
