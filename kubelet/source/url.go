package source

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// web finds static pods at an address. Owned by one goroutine.
type web struct {
	address, node string
	header        http.Header
	every         time.Duration
	client        *http.Client
	log           *zap.Logger
	known         []*corev1.Pod
	said          string
}

// run asks until ctx ends; answered is called after the first answer that says which pods there are.
func (w *web) run(ctx context.Context, tell func(*corev1.Pod, bool), answered func()) {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	defer w.client.CloseIdleConnections()
	for {
		pods, err := w.ask(ctx)
		text := ""
		if err != nil {
			text = err.Error()
			if text != w.said && ctx.Err() == nil {
				w.log.Warn("reading static pods", zap.String("address", w.address), zap.Error(err))
			}
		} else {
			w.known = swap(w.known, pods, tell)
			answered()
		}
		w.said = text
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask gets the pods; with an error the ones that are known stay.
func (w *web) ask(ctx context.Context) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.address, nil)
	if err != nil {
		return nil, err
	}
	req.Header = w.header.Clone()
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := whole(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("the answer is empty")
	}
	pods, err := manifest(data, true)
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		if err := static(p, w.node, "http", w.address); err != nil {
			return nil, fmt.Errorf("pod %s: %w", p.Name, err)
		}
	}
	return pods, nil
}

// Header reads the headers of --manifest-url-header: «key:value», a comma between two; or the object that a configuration file holds.
func Header(text string) (http.Header, error) {
	h := http.Header{}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		var lists map[string][]string
		if err := json.Unmarshal([]byte(text), &lists); err != nil {
			return nil, fmt.Errorf("decoding headers: %w", err)
		}
		for key, values := range lists {
			for _, v := range values {
				h.Add(key, v)
			}
		}
		return h, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(word) == "" {
			continue
		}
		key, value, ok := strings.Cut(word, ":")
		if !ok || strings.TrimSpace(key) == "" {
			return nil, fmt.Errorf("malformed pair %q, expect key:value", word)
		}
		h.Add(strings.TrimSpace(key), strings.TrimSpace(value))
	}
	return h, nil
}
