package plugins

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
)

// quiet is a cluster that has a namespace and its account, and decodes them each time they are asked for, as lookup does.
type quiet struct{ namespace, account []byte }

func (q quiet) Namespace(context.Context, string) (*corev1.Namespace, error) {
	o := &corev1.Namespace{}
	return o, o.Unmarshal(q.namespace)
}

func (q quiet) ServiceAccount(context.Context, string, string) (*corev1.ServiceAccount, error) {
	o := &corev1.ServiceAccount{}
	return o, o.Unmarshal(q.account)
}

func (quiet) LimitRanges(context.Context, string, bool) ([]*corev1.LimitRange, error) {
	return nil, nil
}

func (quiet) PriorityClass(_ context.Context, name string) (*schedulingv1.PriorityClass, error) {
	return nil, missing("priorityclasses", name)
}

func (quiet) PriorityClasses(context.Context) ([]*schedulingv1.PriorityClass, error) { return nil, nil }

func (quiet) RuntimeClass(_ context.Context, name string) (*nodev1.RuntimeClass, error) {
	return nil, missing("runtimeclasses", name)
}

func (quiet) StorageClasses(context.Context) ([]*storagev1.StorageClass, error) { return nil, nil }

func (quiet) IngressClasses(context.Context) ([]*networkingv1.IngressClass, error) { return nil, nil }

func (quiet) ResourceQuotas(context.Context, string) ([]*corev1.ResourceQuota, error) {
	return nil, nil
}

// BenchmarkChain is what the plugins that are on by default cost a new pod, without what they wait for.
func BenchmarkChain(b *testing.B) {
	for _, c := range []struct {
		name   string
		labels map[string]string
	}{{"privileged", nil}, {"restricted", levels("enforce", "restricted", "audit", "restricted", "warn", "restricted")}} {
		b.Run(c.name, func(b *testing.B) {
			meta := metav1.ObjectMeta{Name: "a", UID: uuid.NewUUID(), Labels: c.labels, CreationTimestamp: metav1.Now()}
			namespace, err := (&corev1.Namespace{ObjectMeta: meta, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}).Marshal()
			if err != nil {
				b.Fatal(err)
			}
			account, err := (&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: "a", UID: uuid.NewUUID()}}).Marshal()
			if err != nil {
				b.Fatal(err)
			}
			q := quiet{namespace, account}
			links, err := Table(Parts{
				Namespaces: q, ServiceAccounts: q, LimitRanges: q, PriorityClasses: q, RuntimeClasses: q, StorageClasses: q, IngressClasses: q, Quotas: q,
				NotReadySeconds: 30, UnreachableSeconds: 30,
			}, Choice{})
			if err != nil {
				b.Fatal(err)
			}
			chain := admission.New(links)
			user := &request.User{Name: "jane", Groups: []string{"system:authenticated"}}
			fresh := aPod(restrictedPod)
			ctx := request.Begin(b.Context(), &request.Info{}, nil, func(text string) { b.Error(text) })
			b.ReportAllocs()
			for b.Loop() {
				o := *fresh
				o.Spec.Containers = slices.Clone(o.Spec.Containers)
				a := &admission.Attributes{Operation: admission.Create, Resource: podKind, Namespace: "a", Name: "p", Object: &o, User: user}
				if err := chain.Mutate(ctx, a); err != nil {
					b.Fatal(err)
				}
				if err := chain.Validate(ctx, a); err != nil {
					b.Fatal(err)
				}
				chain.Stored(ctx, a)
			}
		})
	}
}
