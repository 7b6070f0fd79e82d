// Package hookclient asks web services that a cluster's administrator names: it posts a JSON object and reads the answer. Who is
// asked, and who we are to him, says a kubeconfig file
// (https://kubernetes.io/docs/reference/access-authn-authz/webhook/#configuration-file-format).
package hookclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	maxAnswer    = 3 << 20
	maxComplaint = 512 // bytes of an unwelcome answer that are told
)

// Options are how a service is asked.
type Options struct {
	Timeout time.Duration // of one try; 0: 30 s
	Tries   int           // 0: 5
	Pause   time.Duration // before the second try, then half as long again each; 0: 500 ms
}

// Client asks one service. Safe for concurrent use.
type Client struct {
	url  string
	http *http.Client
	o    Options
}

// FromKubeconfig makes a client of the service that the file names as its cluster. Nothing is dialled yet. An error names the file
// and what is wrong with it.
func FromKubeconfig(file string, o Options) (*Client, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if cfg.Host == "" {
		return nil, fmt.Errorf("reading %s: its cluster has no server: name the URL of the service", file)
	}
	c, err := New(cfg, o)
	if err != nil {
		return nil, fmt.Errorf("using %s: %w", file, err)
	}
	return c, nil
}

// New makes a client of the service at cfg.Host, which is a whole URL.
func New(cfg *rest.Config, o Options) (*Client, error) {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.Pause == 0 {
		o.Pause = 500 * time.Millisecond
	}
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a redirect is an answer that we do not take
	return &Client{cfg.Host, h, o}, nil
}

// Post sends in as JSON, which says its apiVersion and kind itself, and reads the answer into out (nil: it is not looked at). A
// service that cannot be reached, or is too busy, is asked again; the last error is returned. in is never part of an error.
func (c *Client) Post(ctx context.Context, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding what to ask %s: %w", c.url, err)
	}
	pause := c.o.Pause
	for try := 1; ; try++ {
		again, err := c.post(ctx, body, out)
		if err == nil || !again || try == c.o.Tries {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(pause):
		}
		pause += pause / 2
	}
}

// post asks once; again says that another try may help.
func (c *Client) post(ctx context.Context, body []byte, out any) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	answer, err := c.http.Do(r)
	if err != nil {
		return true, err // names the URL
	}
	defer func() { _ = answer.Body.Close() }() // read to its end, or not wanted
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return true, fmt.Errorf("reading the answer of %s: %w", c.url, err)
	case len(b) > maxAnswer:
		return false, fmt.Errorf("the answer of %s is longer than %d bytes", c.url, maxAnswer)
	case answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode >= http.StatusInternalServerError:
		return true, fmt.Errorf("%s answered %s: %.*q", c.url, answer.Status, maxComplaint, b)
	case answer.StatusCode < 200 || answer.StatusCode > 299:
		return false, fmt.Errorf("%s answered %s: %.*q", c.url, answer.Status, maxComplaint, b)
	case out == nil:
		return false, nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return false, fmt.Errorf("the answer of %s: %w", c.url, err)
	}
	return false, nil
}
