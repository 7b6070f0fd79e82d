package authn

import (
	"encoding/json"
	"fmt"
	"time"
)

// Published is what servers behind this one must know to tell the same callers, as the ConfigMap
// kube-system/extension-apiserver-authentication has it: authorities in PEM, and lists in JSON
// (https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/#kubernetes-apiserver-client-authentication).
func (a *Authenticator) Published() (map[string]string, error) {
	now := time.Now()
	all := map[string]string{}
	if a.clients != nil {
		all["client-ca-file"] = string(a.clients.ca.Current(now).PEM)
	}
	if a.front == nil {
		return all, nil
	}
	all["requestheader-client-ca-file"] = string(a.front.ca.Current(now).PEM)
	for key, list := range map[string][]string{
		"requestheader-allowed-names":        a.front.cfg.Names,
		"requestheader-username-headers":     a.front.cfg.Users,
		"requestheader-uid-headers":          a.front.cfg.UIDs,
		"requestheader-group-headers":        a.front.cfg.Groups,
		"requestheader-extra-headers-prefix": a.front.cfg.Extras,
	} {
		if list == nil {
			list = []string{}
		}
		b, err := json.Marshal(list)
		if err != nil {
			return nil, fmt.Errorf("telling %s: %w", key, err)
		}
		all[key] = string(b)
	}
	return all, nil
}
