package conformance

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// coreEvent is an event of core/v1 about a pod that is not there.
func coreEvent(ns, name, label string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: name, Labels: map[string]string{rowLabel: label}},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "nobody", Namespace: ns}, Type: corev1.EventTypeNormal,
		Reason: "Test", Message: "This is a test event", Source: corev1.EventSource{Component: "conformance"},
		FirstTimestamp: metav1.Now(), LastTimestamp: metav1.Now(), Count: 1,
	}
}

// newEvent is one of events.k8s.io/v1.
func newEvent(ns, name, label string) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{rowLabel: label}},
		Regarding:  corev1.ObjectReference{Kind: "Pod", Name: "nobody", Namespace: ns, APIVersion: "v1"}, Type: corev1.EventTypeNormal,
		EventTime: metav1.NewMicroTime(time.Now()), Note: "This is a test event", Action: "Do", Reason: "Test",
		ReportingController: "example.com/conformance", ReportingInstance: "conformance-1",
	}
}

// INS-001
func coreEventCollection(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().Events(ns)
	label := r.unique()
	for i := range 3 {
		_, err := client.Create(r.ctx, coreEvent(ns, fmt.Sprintf("test-%d", i), label), metav1.CreateOptions{})
		r.must(err, "creating")
	}
	list, err := client.List(r.ctx, labelled(label))
	r.must(err, "listing")
	r.equal("events", len(list.Items), 3)
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	list, err = client.List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("events left", len(list.Items), 0)
}

// INS-002: an event is made, found in all namespaces, patched, updated and deleted.
func coreEventLife(r *row) {
	ns := r.namespace()
	client := r.kube.CoreV1().Events(ns)
	label := r.unique()
	_, err := client.Create(r.ctx, coreEvent(ns, "one", label), metav1.CreateOptions{})
	r.must(err, "creating")
	list, err := r.kube.CoreV1().Events(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("events in all namespaces", len(list.Items), 1)
	_, err = client.Patch(r.ctx, "one", types.StrategicMergePatchType, []byte(`{"message":"This is a test event - patched"}`), metav1.PatchOptions{})
	r.must(err, "patching")
	got, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("message after the patch", got.Message, "This is a test event - patched")
	r.equal("reason after the patch", got.Reason, "Test")
	got.Series = &corev1.EventSeries{Count: 100, LastObservedTime: metav1.NewMicroTime(time.Unix(1505828956, 123456000))}
	_, err = client.Update(r.ctx, got, metav1.UpdateOptions{})
	r.must(err, "updating")
	again, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("series after the update", asJSON(again.Series), asJSON(got.Series))
	r.must(client.Delete(r.ctx, "one", metav1.DeleteOptions{}), "deleting")
	list, err = client.List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("events left", len(list.Items), 0)
}

// INS-003
func eventCollection(r *row) {
	ns := r.namespace()
	client := r.kube.EventsV1().Events(ns)
	label := r.unique()
	for i := range 3 {
		_, err := client.Create(r.ctx, newEvent(ns, fmt.Sprintf("test-%d", i), label), metav1.CreateOptions{})
		r.must(err, "creating")
	}
	list, err := r.kube.EventsV1().Events(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("events", len(list.Items), 3)
	r.must(client.DeleteCollection(r.ctx, metav1.DeleteOptions{}, labelled(label)), "deleting the collection")
	list, err = client.List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("events left", len(list.Items), 0)
}

// INS-004: an event of the new group is made, found by its controller through the old one, patched, updated and deleted.
func eventLife(r *row) {
	ns := r.namespace()
	client := r.kube.EventsV1().Events(ns)
	label := r.unique()
	wish := newEvent(ns, "one", label)
	wish.ReportingController = "example.com/" + label
	made, err := client.Create(r.ctx, wish, metav1.CreateOptions{})
	r.must(err, "creating")
	list, err := r.kube.EventsV1().Events(metav1.NamespaceAll).List(r.ctx, labelled(label))
	r.must(err, "listing in all namespaces")
	r.equal("events in all namespaces", len(list.Items), 1)
	r.equal("time of the event, in microseconds", list.Items[0].EventTime.UnixMicro(), wish.EventTime.UnixMicro())
	for selector, want := range map[string]int{
		"reportingComponent=example.com/" + label: 1, "source=example.com/" + label: 1, "reason=Test,involvedObject.name=nobody": 1, "reason=Other": 0,
	} {
		old, err := r.kube.CoreV1().Events(ns).List(r.ctx, metav1.ListOptions{FieldSelector: selector})
		r.must(err, "listing events of core/v1 by "+selector)
		r.equal("events of core/v1 by "+selector, len(old.Items), want)
	}
	got, err := client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("event got", asJSON(got), asJSON(made))

	series := &eventsv1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(time.Unix(1014, 0))}
	patch, err := json.Marshal(map[string]any{"series": series})
	r.must(err, "writing the patch")
	patched, err := client.Patch(r.ctx, "one", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	r.must(err, "patching")
	r.equal("series after the patch", asJSON(patched.Series), asJSON(series))
	patched.Series.Count = 3
	_, err = client.Update(r.ctx, patched, metav1.UpdateOptions{})
	r.must(err, "updating")
	got, err = client.Get(r.ctx, "one", metav1.GetOptions{})
	r.must(err, "getting")
	r.equal("count after the update", got.Series.Count, int32(3))
	r.must(client.Delete(r.ctx, "one", metav1.DeleteOptions{}), "deleting")
	list, err = client.List(r.ctx, labelled(label))
	r.must(err, "listing what is left")
	r.equal("events left", len(list.Items), 0)
}
