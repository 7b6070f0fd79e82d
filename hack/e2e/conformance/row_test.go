package conformance

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
)

// patience is how long a row waits for what the cluster does by itself.
const patience = 30 * time.Second

// row is one test of the list while it runs. Its methods end the test when something is not as demanded.
type row struct {
	*testing.T
	ctx     context.Context
	config  *rest.Config
	kube    kubernetes.Interface
	dyn     dynamic.Interface
	foreign bool   // the cluster is somebody else's
	prefix  string // of all names that this row makes
}

func newRow(t *testing.T, w *world, l line) *row {
	t.Log(l.name)
	return &row{T: t, ctx: t.Context(), config: w.config, kube: w.kube, dyn: w.dyn, foreign: w.foreign, prefix: "conf-" + strings.ToLower(l.id)}
}

// unique makes a name that nothing else has.
func (r *row) unique() string { return r.prefix + "-" + rand.String(6) }

// must ends the test when doing something failed.
func (r *row) must(err error, doing string) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", doing, err)
	}
}

// equal ends the test unless got is want.
func (r *row) equal(what string, got, want any) {
	r.Helper()
	if !reflect.DeepEqual(got, want) {
		r.Fatalf("%s: got %v, want %v", what, asJSON(got), asJSON(want))
	}
}

// refused ends the test unless err is a refusal for that reason.
func (r *row) refused(err error, reason metav1.StatusReason, doing string) {
	r.Helper()
	if err == nil {
		r.Fatalf("%s succeeded, want %s", doing, reason)
	}
	if got := apierrors.ReasonForError(err); got != reason {
		r.Fatalf("%s: got reason %q (%v), want %q", doing, got, err, reason)
	}
}

// newer ends the test unless the second resource version is after the first.
func (r *row) newer(doing, before, after string) {
	r.Helper()
	order, err := resourceversion.CompareResourceVersion(before, after)
	if err != nil || order >= 0 {
		r.Fatalf("%s: resource version %q after %q (%v), want a greater one", doing, after, before, err)
	}
}

// eventually repeats ask until it says yes. An error of it counts as no, and is told in the end.
func (r *row) eventually(what string, ask func() (bool, error)) {
	r.Helper()
	r.within(patience, what, func() (bool, error) {
		yes, err := ask()
		return yes && err == nil, err
	})
}

// within repeats ask until it says yes, for so long at most. Its error only says why not, and is nothing when it says yes.
func (r *row) within(most time.Duration, what string, ask func() (bool, error)) {
	r.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(50 * time.Millisecond) {
		yes, err := ask()
		if yes {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("not within %v: %s (%v)", most, what, err)
		}
	}
}

// again does something that may meet with somebody else's write, as often as it takes.
func (r *row) again(doing string, do func() error) {
	r.Helper()
	r.must(retry.RetryOnConflict(retry.DefaultBackoff, do), doing)
}

// namespace makes a namespace in which pods can be made, deleted at the row's end.
func (r *row) namespace() string {
	r.Helper()
	n, err := r.kube.CoreV1().Namespaces().Create(r.ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: r.prefix + "-", Labels: map[string]string{"conformance": "row"}},
	}, metav1.CreateOptions{})
	r.must(err, "creating a namespace")
	r.tidy("deleting namespace "+n.Name, func(ctx context.Context) error {
		return r.kube.CoreV1().Namespaces().Delete(ctx, n.Name, metav1.DeleteOptions{})
	})
	r.eventually("a service account default in "+n.Name, func() (bool, error) {
		_, err := r.kube.CoreV1().ServiceAccounts(n.Name).Get(r.ctx, "default", metav1.GetOptions{})
		return err == nil, err
	})
	return n.Name
}

// tidy does something at the row's end, when its context has ended; that the thing is not there any more is well.
func (r *row) tidy(doing string, do func(ctx context.Context) error) {
	r.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := do(ctx); err != nil && !apierrors.IsNotFound(err) {
			r.Errorf("%s: %v", doing, err)
		}
	})
}

// sweep deletes the object of that name at the row's end, if it is still there.
func (r *row) sweep(client dynamic.ResourceInterface, name string) {
	r.tidy("deleting "+name, func(ctx context.Context) error { return client.Delete(ctx, name, metav1.DeleteOptions{}) })
}

// labelled selects what a row has labelled with that value.
func labelled(value string) metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: rowLabel + "=" + value}
}

// rowLabel is on what a row makes and later selects.
const rowLabel = "conformance.example.com/row"

// asJSON shows a value as users see it.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
