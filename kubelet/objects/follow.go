package objects

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// kind is how objects of a kind are read.
type kind struct {
	example runtime.Object
	list    func(context.Context, kubernetes.Interface, Key, metav1.ListOptions) (runtime.Object, error)
	watch   func(context.Context, kubernetes.Interface, Key, metav1.ListOptions) (watch.Interface, error)
}

var kinds = map[string]kind{
	ConfigMap: {&corev1.ConfigMap{},
		func(ctx context.Context, k kubernetes.Interface, key Key, o metav1.ListOptions) (runtime.Object, error) {
			return k.CoreV1().ConfigMaps(key.Namespace).List(ctx, o)
		},
		func(ctx context.Context, k kubernetes.Interface, key Key, o metav1.ListOptions) (watch.Interface, error) {
			return k.CoreV1().ConfigMaps(key.Namespace).Watch(ctx, o)
		}},
	Secret: {&corev1.Secret{},
		func(ctx context.Context, k kubernetes.Interface, key Key, o metav1.ListOptions) (runtime.Object, error) {
			return k.CoreV1().Secrets(key.Namespace).List(ctx, o)
		},
		func(ctx context.Context, k kubernetes.Interface, key Key, o metav1.ListOptions) (watch.Interface, error) {
			return k.CoreV1().Secrets(key.Namespace).Watch(ctx, o)
		}},
	TrustBundle: {&certificatesv1.ClusterTrustBundle{},
		func(ctx context.Context, k kubernetes.Interface, _ Key, o metav1.ListOptions) (runtime.Object, error) {
			return k.CertificatesV1().ClusterTrustBundles().List(ctx, o)
		},
		func(ctx context.Context, k kubernetes.Interface, _ Key, o metav1.ListOptions) (watch.Interface, error) {
			return k.CertificatesV1().ClusterTrustBundles().Watch(ctx, o)
		}},
}

// selector chooses the objects of a key.
func (k Key) selector() string {
	if k.Signer != "" {
		return fields.OneTermEqualSelector("spec.signerName", k.Signer).String()
	}
	return fields.OneTermEqualSelector(metav1.ObjectNameField, k.Name).String()
}

// follow lists and watches until ctx ends; the reflector retries by itself, at first soon: the right to read an object comes with the pod,
// and may come a moment after it.
func (s *Store) follow(ctx context.Context, sl *slot) {
	k, only := kinds[sl.key.Kind], sl.key.selector()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			list, err := k.list(ctx, s.kube, sl.key, o)
			s.failed(sl, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			sl.watching(false)
			w, err := k.watch(ctx, s.kube, sl.key, o)
			sl.watching(err == nil)
			s.failed(sl, err)
			return w, err
		},
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, s.kube), k.example, sl, cache.ReflectorOptions{
		Name: fmt.Sprintf("%s/%s/%s%s", sl.key.Kind, sl.key.Namespace, sl.key.Name, sl.key.Signer),
		// Most objects never change: there is no need to ask for them again every five minutes.
		MinWatchTimeout: 30 * time.Minute,
		Backoff:         &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 10, Cap: 30 * time.Second, Jitter: 0.5},
	}).RunWithContext(ctx)
}

// failed takes in why the API did not answer. What no pod wants is not asked for again when it may not be read.
func (s *Store) failed(sl *slot, err error) {
	if err != nil && sl.refuse(err) {
		s.wakeUp()
	}
}
