package plugins

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/pkg/pod"
)

// serviceAccount gives every pod an account to act as, and its containers a token of it, unless pod or account say no
// (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller).
type serviceAccount struct{ accounts ServiceAccounts }

func (*serviceAccount) Name() string { return "ServiceAccount" }

const (
	// tokenPath is where clients in pods look for who they are and whom to ask.
	tokenPath   = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolume = "kube-api-access-" // then five random characters
	tokenLife   = int64(3607)        // see actions: a life that tells who asked
	rootCAMap   = "kube-root-ca.crt"
	// enforceMounts, on an account, allows its pods only the secrets that it lists.
	enforceMounts = "kubernetes.io/enforce-mountable-secrets"
)

func (p *serviceAccount) Mutate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || !a.Is("", "pods") {
		return nil
	}
	o := a.Object.(*corev1.Pod)
	if pod.Mirror(o) { // it runs already, and not as anybody
		return mirrorAsNobody(a, o)
	}
	if o.Spec.ServiceAccountName == "" {
		o.Spec.ServiceAccountName = "default"
	}
	o.Spec.DeprecatedServiceAccount = o.Spec.ServiceAccountName
	sa, err := p.account(ctx, a, o)
	if err != nil {
		return err
	}
	if mountsToken(o, sa) {
		mountToken(o)
	}
	if len(o.Spec.ImagePullSecrets) == 0 {
		o.Spec.ImagePullSecrets = slices.Clone(sa.ImagePullSecrets)
	}
	return nil
}

// Validate holds pods to the secrets of their account, where the account asks for that.
func (p *serviceAccount) Validate(ctx context.Context, a *admission.Attributes) error {
	o, ok := a.Object.(*corev1.Pod)
	if !ok || pod.Mirror(o) || !(a.Operation == admission.Create && a.Subresource == "" || a.Operation == admission.Update && a.Subresource == "ephemeralcontainers") {
		return nil
	}
	sa, err := p.account(ctx, a, o)
	if err != nil {
		return err
	}
	if sa.Annotations[enforceMounts] != "true" {
		return nil
	}
	allowed := map[string]bool{}
	for _, s := range sa.Secrets {
		allowed[s.Name] = true
	}
	for _, v := range o.Spec.Volumes {
		if v.Secret != nil && !allowed[v.Secret.SecretName] {
			return forbid(a, "volume with secret.secretName=%q is not allowed because service account %s does not reference that secret", v.Secret.SecretName, sa.Name)
		}
	}
	for _, c := range pod.Containers(o) {
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil && !allowed[from.SecretRef.Name] {
				return forbid(a, "container %s with envFrom referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", c.Name, from.SecretRef.Name, sa.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !allowed[e.ValueFrom.SecretKeyRef.Name] {
				return forbid(a, "container %s with envVar %s referencing secret.secretName=%q is not allowed because service account %s does not reference that secret", c.Name, e.Name, e.ValueFrom.SecretKeyRef.Name, sa.Name)
			}
		}
	}
	for _, s := range o.Spec.ImagePullSecrets {
		if !slices.ContainsFunc(sa.ImagePullSecrets, func(have corev1.LocalObjectReference) bool { return have.Name == s.Name }) {
			return forbid(a, "imagePullSecret with name=%q is not allowed because service account %s does not reference that imagePullSecret", s.Name, sa.Name)
		}
	}
	return nil
}

func (p *serviceAccount) account(ctx context.Context, a *admission.Attributes, o *corev1.Pod) (*corev1.ServiceAccount, error) {
	sa, err := p.accounts.ServiceAccount(ctx, a.Namespace, o.Spec.ServiceAccountName)
	if apierrors.IsNotFound(err) {
		return nil, forbid(a, "error looking up service account %s/%s: %v", a.Namespace, o.Spec.ServiceAccountName, err)
	}
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return sa, nil
}

// mirrorAsNobody says no to a mirror pod that would give its node the rights of an account.
func mirrorAsNobody(a *admission.Attributes, o *corev1.Pod) error {
	if o.Spec.ServiceAccountName != "" {
		return forbid(a, "a mirror pod may not reference service accounts")
	}
	for _, v := range o.Spec.Volumes {
		if v.Secret != nil {
			return forbid(a, "a mirror pod may not reference secrets")
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				return forbid(a, "a mirror pod may not use ServiceAccountToken volume projections")
			}
		}
	}
	return nil
}

// mountsToken: what the pod says counts, then what the account says, and else yes.
func mountsToken(o *corev1.Pod, sa *corev1.ServiceAccount) bool {
	if say := o.Spec.AutomountServiceAccountToken; say != nil {
		return *say
	}
	return ptr.Deref(sa.AutomountServiceAccountToken, true)
}

// mountToken mounts token, authority and namespace into every container that has nothing at that path.
func mountToken(o *corev1.Pod) {
	at := slices.IndexFunc(o.Spec.Volumes, func(v corev1.Volume) bool {
		return len(v.Name) > len(tokenVolume) && v.Name[:len(tokenVolume)] == tokenVolume
	})
	name := ""
	if at >= 0 {
		name = o.Spec.Volumes[at].Name
	} else {
		name = tokenVolume + rand.String(5)
	}
	needed := false
	mount := func(all []corev1.Container) {
		for i := range all {
			c := &all[i]
			if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenPath }) {
				continue
			}
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenPath})
			needed = true
		}
	}
	mount(o.Spec.InitContainers)
	mount(o.Spec.Containers)
	if needed && at < 0 {
		o.Spec.Volumes = append(o.Spec.Volumes, tokenSource(name))
	}
}

// tokenSource is the volume (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-token-volume).
func tokenSource(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To(tokenLife)}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
			}}},
		},
	}}}
}

// forbid refuses with words that users know, without the plugin's name before them.
func forbid(a *admission.Attributes, format string, args ...any) error {
	return apierrors.NewForbidden(a.Resource.GroupResource(), a.Name, fmt.Errorf(format, args...))
}
