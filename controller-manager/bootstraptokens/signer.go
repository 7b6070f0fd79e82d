package bootstraptokens

import (
	"context"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/client"
)

// What is signed, and where the signatures stand beside it.
const (
	infoName        = "cluster-info"
	infoKey         = "kubeconfig"
	signaturePrefix = "jws-kubeconfig-"
)

type signer struct {
	t      loop.Tools
	infos  corelisters.ConfigMapLister // that one
	tokens corelisters.SecretLister
}

// Signer is the constructor of what signs kube-public/cluster-info.
func Signer(t loop.Tools) loop.Controller {
	f := client.Informers(t.Watching.Kube, informers.WithNamespace(metav1.NamespacePublic), informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", infoName).String()
	}))
	info, tokens := f.Core().V1().ConfigMaps().Informer(), secrets(t)
	c := &signer{t: t, infos: corelisters.NewConfigMapLister(info.GetIndexer()), tokens: corelisters.NewSecretLister(tokens.GetIndexer())}
	return loop.Controller{
		Watches: []loop.Watch{
			{Resource: "configmaps", Only: info, Wakes: loop.Self},
			{Resource: "secrets", Only: tokens, Wakes: loop.Func("cluster-info", func(loop.Event) []loop.Key {
				return []loop.Key{{Namespace: metav1.NamespacePublic, Name: infoName}}
			})},
		},
		Reconcile: c.reconcile,
	}
}

func (c *signer) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	have, err := c.infos.ConfigMaps(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	tokens, err := c.tokens.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	now := time.Now()
	want, again, err := next(have, tokens, now)
	if err != nil {
		return 0, err
	}
	if _, err := loop.Commit(ctx, c.t.Clients.Kube.CoreV1().ConfigMaps(key.Namespace), have, want); err != nil {
		return 0, err
	}
	return again, nil
}

// next is the ConfigMap with the signatures of all tokens that sign now, and after how long the first of them ends.
func next(have *corev1.ConfigMap, tokens []*corev1.Secret, now time.Time) (want *corev1.ConfigMap, again time.Duration, err error) {
	want = have.DeepCopy()
	maps.DeleteFunc(want.Data, func(k, _ string) bool { return strings.HasPrefix(k, signaturePrefix) })
	text, ok := have.Data[infoKey]
	if !ok || text == "" {
		return want, 0, nil
	}
	for _, s := range tokens {
		id, key, ok := signs(s, now)
		if !ok {
			continue
		}
		if want.Data[signaturePrefix+id], err = sign(text, id, key); err != nil {
			return nil, 0, err
		}
		if at, does := ends(s); does && (again == 0 || at.Sub(now) < again) {
			again = at.Sub(now)
		}
	}
	return want, again, nil
}
