package conformance

import (
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"

	"pilothouse.dev/pkg/testcluster"
)

// many is how many objects the rows about chunks list.
const many = 400

// manyTemplates makes them, named in the order of their numbers.
func manyTemplates(r *row, client typedcore.PodTemplateInterface) {
	r.Helper()
	var writers sync.WaitGroup
	const side = 8
	for w := range side {
		writers.Go(func() {
			for i := w; i < many; i += side {
				_, err := client.Create(r.ctx, template(fmt.Sprintf("template-%04d", i), "chunks"), metav1.CreateOptions{})
				if err != nil {
					r.Errorf("creating template %d: %v", i, err)
					return
				}
			}
		})
	}
	writers.Wait()
	if r.Failed() {
		r.FailNow()
	}
}

// template is a small pod template.
func template(name, label string) *corev1.PodTemplate {
	return &corev1.PodTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{rowLabel: label}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "chunks"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "test", Image: "test2"}}},
		},
	}
}

// AM-006: a list in chunks is of one revision and complete, with a count of what remains; one without a limit has all.
func chunks(r *row) {
	client := r.kube.CoreV1().PodTemplates(r.namespace())
	manyTemplates(r, client)
	for _, limit := range []int64{1 + many/3, 17, many - 1, many, many + 1} {
		opts := metav1.ListOptions{Limit: limit}
		var revision string
		for found := 0; ; {
			list, err := client.List(r.ctx, opts)
			r.must(err, fmt.Sprintf("listing %d after %d", limit, found))
			if int64(len(list.Items)) > limit {
				r.Fatalf("a chunk of %d has %d items", limit, len(list.Items))
			}
			if revision == "" {
				revision = list.ResourceVersion
			}
			r.equal("resource version of a later chunk", list.ResourceVersion, revision)
			for _, item := range list.Items {
				r.equal("name in a chunk", item.Name, fmt.Sprintf("template-%04d", found))
				found++
			}
			if list.Continue == "" {
				if list.RemainingItemCount != nil {
					r.equal("remaining items in the last chunk", *list.RemainingItemCount, int64(0))
				}
				r.equal("items in all chunks", found, many)
				break
			}
			r.equal("items in a chunk that is not the last", len(list.Items), int(limit))
			if list.RemainingItemCount == nil || *list.RemainingItemCount != int64(many-found) {
				r.Fatalf("remaining items after %d of %d: %s", found, many, asJSON(list.RemainingItemCount))
			}
			opts.Continue = list.Continue
		}
	}
	all, err := client.List(r.ctx, metav1.ListOptions{})
	r.must(err, "listing without a limit")
	r.equal("items without a limit", len(all.Items), many)
	r.equal("continue without a limit", all.Continue, "")
}

// AM-007: when the version of a chunked list has been compacted away, the token is refused with another one, from which the list
// goes on after the last key, though of a later version.
//
// Compaction is minutes apart; so this row has a server of its own that forgets at once.
func chunksAfterCompaction(r *row) {
	if r.foreign {
		r.Skip("somebody else's cluster forgets when it likes; the wait for it is too long")
	}
	kube := forgetful(r.T)
	client := kube.CoreV1().PodTemplates(metav1.NamespaceDefault)
	manyTemplates(r, client)
	const limit = 40
	first, err := client.List(r.ctx, metav1.ListOptions{Limit: limit})
	r.must(err, "listing the first chunk")
	r.equal("items in the first chunk", len(first.Items), limit)
	if first.Continue == "" {
		r.Fatal("the first chunk has no token")
	}
	var token string
	r.eventually("the token expires", func() (bool, error) {
		// Something must happen, or there is nothing to compact.
		if _, err := kube.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(r.ctx, note(r.unique(), "tick"), metav1.CreateOptions{}); err != nil {
			return false, err
		}
		_, err := client.List(r.ctx, metav1.ListOptions{Limit: limit, Continue: first.Continue})
		if err == nil {
			return false, nil
		}
		r.refused(err, metav1.StatusReasonExpired, "continuing after a compaction")
		status, ok := err.(apierrors.APIStatus)
		if !ok || status.Status().ListMeta.Continue == "" {
			r.Fatalf("the refusal has no token to go on with: %v", err)
		}
		r.equal("code of the refusal", status.Status().Code, int32(410))
		token = status.Status().ListMeta.Continue
		return true, nil
	})
	found := limit
	revision := ""
	for token != "" {
		list, err := client.List(r.ctx, metav1.ListOptions{Limit: limit, Continue: token})
		if apierrors.IsResourceExpired(err) { // forgotten again, between two chunks
			token, revision = err.(apierrors.APIStatus).Status().ListMeta.Continue, ""
			continue
		}
		r.must(err, "going on after a compaction")
		if revision == "" {
			revision = list.ResourceVersion
			r.newer("going on after a compaction", first.ResourceVersion, revision)
		}
		r.equal("resource version of a chunk after that", list.ResourceVersion, revision)
		for _, item := range list.Items {
			r.equal("name in a chunk", item.Name, fmt.Sprintf("template-%04d", found))
			found++
		}
		token = list.Continue
	}
	r.equal("items in all chunks", found, many)
}

// forgetful is a client to a server that compacts all the time.
func forgetful(t *testing.T) kubernetes.Interface {
	return testcluster.Start(t, "--etcd-compaction-interval=1s").Kube
}
