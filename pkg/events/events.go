// Package events tells users what happened to an object, as core/v1 Events that `kubectl describe` and `kubectl events` show.
// Repeats are counted on one Event instead of written anew.
package events

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"pilothouse.dev/pkg/api"
)

// Recorder records events; it never blocks the caller. Run delivers.
type Recorder struct {
	record.EventRecorder
	broadcaster record.EventBroadcaster
	kube        kubernetes.Interface
}

// New makes a recorder for a component (the daemon's name) on a host (the node's name, or empty).
func New(kube kubernetes.Interface, component, host string) *Recorder {
	b := record.NewBroadcaster()
	return &Recorder{
		EventRecorder: b.NewRecorder(api.Scheme, corev1.EventSource{Component: component, Host: host}),
		broadcaster:   b,
		kube:          kube,
	}
}

// Of is a recorder for another component of the same daemon; r.Run delivers its events, too.
func (r *Recorder) Of(component string) record.EventRecorder {
	return r.broadcaster.NewRecorder(api.Scheme, corev1.EventSource{Component: component})
}

// Run delivers events until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	r.broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: r.kube.CoreV1().Events("")})
	<-ctx.Done()
	r.broadcaster.Shutdown()
	return nil
}
