package main

import (
	"flag"
	"time"
)

// options are the flags of all commands; each reads the few it knows.
type options struct {
	args     []string
	port     int
	udp      int
	drain    time.Duration
	every    time.Duration
	after    time.Duration
	timeout  time.Duration
	count    int
	code     int
	mib      int
	text     string
	failFile string
	post     bool
	folder   string
	token    string
	audience string
	json     bool
}

func parse(name string, args []string) options {
	var o options
	f := flag.NewFlagSet(name, flag.ExitOnError)
	f.IntVar(&o.port, "port", 8080, "serve, echo: TCP port")
	f.IntVar(&o.udp, "udp", 0, "serve, echo: UDP port that echoes; 0 for none")
	f.DurationVar(&o.drain, "drain", 0, "serve: go on serving so long after SIGTERM, with /readyz failing")
	f.DurationVar(&o.every, "every", time.Second, "logs, connect, incluster, look: pause between two")
	f.DurationVar(&o.after, "after", 0, "exit: so long after the start; stalls: for so long at most")
	f.DurationVar(&o.timeout, "timeout", 5*time.Second, "connect, incluster, issuer: for one call; probe: for a round")
	f.IntVar(&o.count, "count", 1, "logs: lines, connect, incluster: calls, look: times, stalls: look-ups; 0 for ever (but for connect, stalls)")
	f.IntVar(&o.code, "code", 0, "exit: with this code")
	f.IntVar(&o.mib, "mib", 64, "eat: mebibytes")
	f.StringVar(&o.text, "text", "line", "logs: what each line says; echo client: what is sent; look: what is written")
	f.StringVar(&o.failFile, "fail-file", "", "serve: /healthz fails while this file exists")
	f.BoolVar(&o.post, "post", false, "connect: POST instead of GET")
	f.StringVar(&o.folder, "folder", "/var/run/secrets/kubernetes.io/serviceaccount", "incluster, issuer: where the API server's authority and our token are")
	f.StringVar(&o.token, "token", "", "issuer: the file of the token to check")
	f.StringVar(&o.audience, "audience", "", "issuer: whom the token must be for")
	f.BoolVar(&o.json, "json", false, "ports: tell over HTTP how it was asked, too")
	f.Parse(args) // ExitOnError: it never returns an error
	o.args = f.Args()
	return o
}
