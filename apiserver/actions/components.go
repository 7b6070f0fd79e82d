//lint:file-ignore SA1019 ComponentStatus is deprecated, and served as long as Kubernetes serves it.

package actions

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// Component is a part of the control plane that can be asked how it is; nil says well.
type Component struct {
	Name string
	Ask  func(ctx context.Context) error
}

// componentTime is how long a component may take to answer.
const componentTime = 2 * time.Second

// componentStatus asks the components: GET componentstatuses and componentstatuses/NAME.
func (p Parts) componentStatus(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	all := slices.DeleteFunc(slices.Clone(p.Components), func(c Component) bool { return i.Name != "" && c.Name != i.Name })
	if i.Name != "" && len(all) == 0 {
		return apierrors.NewNotFound(on.GroupResource(), i.Name)
	}
	slices.SortFunc(all, func(a, b Component) int { return cmp.Compare(a.Name, b.Name) })
	list := &corev1.ComponentStatusList{Items: make([]corev1.ComponentStatus, len(all))}
	ctx, cancel := context.WithTimeout(r.Context(), componentTime)
	defer cancel()
	var asked sync.WaitGroup
	for n, c := range all {
		asked.Go(func() { list.Items[n] = statusOf(c.Name, c.Ask(ctx)) })
	}
	asked.Wait()
	if a, ok := codec.Negotiate(r, true); ok && a.As == codec.Table {
		return writeAs(w, a, http.StatusOK, componentTable(on, list.Items), metav1.SchemeGroupVersion.WithKind("Table"))
	}
	if i.Name != "" {
		return write(w, r, http.StatusOK, &list.Items[0], on.GVK)
	}
	return write(w, r, http.StatusOK, list, core("ComponentStatusList"))
}

func statusOf(name string, err error) corev1.ComponentStatus {
	c := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if err != nil {
		c.Status, c.Message = corev1.ConditionFalse, err.Error()
	}
	return corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: name}, Conditions: []corev1.ComponentCondition{c}}
}

func componentTable(on *registry.Resource, all []corev1.ComponentStatus) *metav1.Table {
	t := &metav1.Table{ColumnDefinitions: on.Columns, Rows: []metav1.TableRow{}}
	for n := range all {
		partial := &metav1.PartialObjectMetadata{ObjectMeta: all[n].ObjectMeta}
		partial.SetGroupVersionKind(schema.GroupVersionKind{Group: "meta.k8s.io", Version: "v1", Kind: "PartialObjectMetadata"})
		t.Rows = append(t.Rows, metav1.TableRow{Cells: on.Cells(&all[n]), Object: runtime.RawExtension{Object: partial}})
	}
	return t
}

// Answers makes a component that is asked at a URL of this host. Its certificate is not checked: nothing is told to it, and what it
// says is only shown.
func Answers(name, url string) Component {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	return Component{name, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
		}
		return err
	}}
}
