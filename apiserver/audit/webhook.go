package audit

import (
	"context"
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"pilothouse.dev/apiserver/hookclient"
)

// WebhookConfig says which service is sent events. Without a file there is none.
type WebhookConfig struct {
	File    string        // kubeconfig
	Backoff time.Duration // before a post is tried again
	Buffering
	Truncation
}

// webhook posts events as an EventList.
type webhook struct {
	client *hookclient.Client
	most   int // bytes in one post, 0: any
}

func newWebhook(c WebhookConfig) (*webhook, error) {
	client, err := hookclient.FromKubeconfig(c.File, hookclient.Options{Pause: c.Backoff})
	if err != nil {
		return nil, err
	}
	w := &webhook{client: client}
	if c.Enabled {
		w.most = c.MaxBatch
	}
	return w, nil
}

type eventList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []json.RawMessage `json:"items"`
}

func (w *webhook) write(ctx context.Context, events [][]byte) (taken int, err error) {
	for len(events) > 0 {
		list := eventList{TypeMeta: metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "EventList"}}
		size := 0
		for _, e := range events {
			if size += len(e); w.most > 0 && size > w.most && len(list.Items) > 0 {
				break
			}
			list.Items = append(list.Items, e)
		}
		if err := w.client.Post(ctx, list, nil); err != nil {
			return taken, err
		}
		taken += len(list.Items)
		events = events[len(list.Items):]
	}
	return taken, nil
}

func (w *webhook) close() error { return nil }
