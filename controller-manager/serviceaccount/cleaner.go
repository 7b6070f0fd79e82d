package serviceaccount

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"

	"pilothouse.dev/controller-manager/loop"
	"pilothouse.dev/pkg/pod"
)

// The labels of secrets with tokens, both days; the API server writes the first and refuses tokens that have the second.
const (
	lastUsedLabel     = "kubernetes.io/legacy-token-last-used"
	invalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"
)

// Where the API server tells since when it notes the use of tokens.
const (
	trackingMap   = "kube-apiserver-legacy-service-account-token-tracking"
	trackingSince = "since"
)

// cleaner takes tokens that were once made for every service account, and that nobody has used for long: it first makes them invalid,
// which can be taken back, and after as long again deletes them
// (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#legacy-serviceaccount-token-cleaner). What people
// made themselves, what a pod mounts, and whatever it is not sure of, stays.
type cleaner struct {
	t        loop.Tools
	period   time.Duration
	secrets  corelisters.SecretLister // only those of the type
	accounts corelisters.ServiceAccountLister
	pods     corelisters.PodLister
}

// LegacyTokens returns the constructor of the cleaner; period is for how long a token must not have been used.
func LegacyTokens(period time.Duration) func(loop.Tools) loop.Controller {
	return func(t loop.Tools) loop.Controller {
		typed := loop.Narrow(t, "secrets", "type="+string(corev1.SecretTypeServiceAccountToken))
		core := t.Informers.Core().V1()
		c := &cleaner{t: t, period: period, secrets: corelisters.NewSecretLister(typed.GetIndexer()), accounts: core.ServiceAccounts().Lister(), pods: core.Pods().Lister()}
		return loop.Controller{
			Watches:   []loop.Watch{{Resource: "secrets", Only: typed, Wakes: loop.Self}},
			Reads:     []string{"serviceaccounts", "pods"},
			Reconcile: c.reconcile,
		}
	}
}

// day is after how long to look again at a token that only its account or a pod keeps.
const day = 24 * time.Hour

func (c *cleaner) reconcile(ctx context.Context, key loop.Key) (time.Duration, error) {
	s, err := c.secrets.Secrets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || s.DeletionTimestamp != nil {
		return 0, err
	}
	now := time.Now()
	due, ok := c.due(s)
	if !ok || due.After(now) {
		return wait(due, now, ok), nil
	}
	used, err := c.used(s)
	if err != nil || used {
		return day, err
	}
	since, ok, err := c.since(ctx)
	if err != nil {
		return 0, err
	}
	if ready := since.Add(c.period); !ok || ready.After(now) {
		return max(wait(ready, now, ok), time.Minute), nil
	}
	client := c.t.Clients.Kube.CoreV1().Secrets(key.Namespace)
	if due, ok := expires(s, c.period); ok {
		if due.After(now) {
			return due.Sub(now), nil
		}
		err := client.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion}})
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) { // one that was written meanwhile wakes again
			return 0, fmt.Errorf("deleting a token that nobody uses: %w", err)
		}
		c.t.Log.Info("token deleted that nobody uses", zap.String("namespace", s.Namespace), zap.String("name", s.Name), zap.String("invalid_since", s.Labels[invalidSinceLabel]))
		return 0, nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": s.UID, "resourceVersion": s.ResourceVersion,
		"labels": map[string]string{invalidSinceLabel: now.UTC().Format(time.DateOnly)}}})
	if err != nil {
		return 0, err
	}
	if _, err := client.Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("making a token invalid that nobody uses: %w", err)
	}
	c.t.Log.Info("token made invalid that nobody uses", zap.String("namespace", s.Namespace), zap.String("name", s.Name))
	return 0, nil // the label wakes it again
}

// wait is until a time, or for a day where there is none.
func wait(until, now time.Time, ok bool) time.Duration {
	if !ok {
		return day
	}
	return until.Sub(now)
}

// due is from when on a token counts as not used; false: never, as far as can be told.
func (c *cleaner) due(s *corev1.Secret) (time.Time, bool) {
	at := s.CreationTimestamp.Add(c.period)
	used, said := s.Labels[lastUsedLabel]
	if !said {
		return at, true
	}
	last, err := time.Parse(time.DateOnly, used)
	if err != nil {
		return at, false
	}
	if end := last.Add(day + c.period); end.After(at) {
		at = end
	}
	return at, true
}

// expires is when a token that was made invalid may go; false: it was not.
func expires(s *corev1.Secret, period time.Duration) (time.Time, bool) {
	at, err := time.Parse(time.DateOnly, s.Labels[invalidSinceLabel])
	return at.Add(day + period), err == nil
}

// since is from when on the use of all tokens was noted: the day after it was begun. It is false when nobody has said.
func (c *cleaner) since(ctx context.Context) (time.Time, bool, error) {
	m, err := c.t.Clients.Kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, trackingMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("asking since when the use of tokens is noted: %w", err)
	}
	at, err := time.Parse(time.DateOnly, m.Data[trackingSince])
	return at.Add(day), err == nil, nil
}

// used says whether a token is not one that was made for every account, or is in a pod.
func (c *cleaner) used(s *corev1.Secret) (bool, error) {
	account, err := c.accounts.ServiceAccounts(s.Namespace).Get(s.Annotations[corev1.ServiceAccountNameKey])
	if apierrors.IsNotFound(err) {
		return true, nil // another's to clean
	}
	if err != nil {
		return true, err
	}
	if uid := s.Annotations[corev1.ServiceAccountUIDKey]; uid != "" && uid != string(account.UID) ||
		!slices.ContainsFunc(account.Secrets, func(r corev1.ObjectReference) bool { return r.Name == s.Name }) {
		return true, nil
	}
	pods, err := c.pods.Pods(s.Namespace).List(everything)
	if err != nil {
		return true, err
	}
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return mentions(p, s.Name) }), nil
}

// mentions says whether a pod names a secret of its namespace anywhere.
func mentions(p *corev1.Pod, name string) bool {
	local := func(r *corev1.LocalObjectReference) bool { return r != nil && r.Name == name }
	for i := range p.Spec.ImagePullSecrets {
		if local(&p.Spec.ImagePullSecrets[i]) {
			return true
		}
	}
	for _, c := range pod.Containers(p) {
		for _, e := range c.EnvFrom {
			if e.SecretRef != nil && e.SecretRef.Name == name {
				return true
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == name {
				return true
			}
		}
	}
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		switch {
		case v.Secret != nil:
			return v.Secret.SecretName == name
		case v.Projected != nil:
			return slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.Secret != nil && s.Secret.Name == name })
		case v.CSI != nil:
			return local(v.CSI.NodePublishSecretRef)
		case v.AzureFile != nil:
			return v.AzureFile.SecretName == name
		case v.CephFS != nil:
			return local(v.CephFS.SecretRef)
		case v.Cinder != nil:
			return local(v.Cinder.SecretRef)
		case v.FlexVolume != nil:
			return local(v.FlexVolume.SecretRef)
		case v.RBD != nil:
			return local(v.RBD.SecretRef)
		case v.ScaleIO != nil:
			return local(v.ScaleIO.SecretRef)
		case v.ISCSI != nil:
			return local(v.ISCSI.SecretRef)
		case v.StorageOS != nil:
			return local(v.StorageOS.SecretRef)
		}
		return false
	})
}
