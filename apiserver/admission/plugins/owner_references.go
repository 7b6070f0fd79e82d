package plugins

import (
	"context"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/admission"
	"pilothouse.dev/apiserver/request"
)

// ownerReferences lets only those change an object's owners who may delete it, since garbage collection will, and only those keep an
// owner from being deleted who may write its finalizers
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#ownerreferencespermissionenforcement).
type ownerReferences struct {
	access Access
	kinds  Kinds
}

// Kinds finds how a kind is called in paths, and whether its objects are in namespaces.
type Kinds interface {
	PluralOf(kind schema.GroupVersionKind) (plural string, namespaced, ok bool)
}

func (*ownerReferences) Name() string { return "OwnerReferencesPermissionEnforcement" }

func (p *ownerReferences) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Object == nil || a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	if a.Subresource == "status" && a.Resource.GVK.Group == "" && a.Resource.Plural == "pods" { // kubelets write it, and may not delete all pods
		return nil
	}
	var had []metav1.OwnerReference
	if a.Old != nil {
		had = a.Old.GetOwnerReferences()
	}
	now := a.Object.GetOwnerReferences()
	if apiequality.Semantic.DeepEqual(now, had) {
		return nil
	}
	if a.Operation == admission.Update { // who makes an object decides whose it is
		i := &request.Info{
			Verb: "delete", IsResource: true, Group: a.Resource.GVK.Group, Version: a.Resource.GVK.Version, Resource: a.Resource.Plural,
			Namespace: a.Namespace, Name: a.Name, Subresource: a.Subresource,
		}
		if ok, why := p.access.Allow(ctx, a.User, i); !ok {
			return forbid(a, "cannot set an ownerRef on a resource you can't delete: %s", why)
		}
	}
	for _, o := range now {
		if blocks(o) && !slices.ContainsFunc(had, func(h metav1.OwnerReference) bool { return blocks(h) && h.UID == o.UID }) {
			if err := p.mayBlock(ctx, a, o); err != nil {
				return err
			}
		}
	}
	return nil
}

func blocks(o metav1.OwnerReference) bool {
	return o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion
}

// mayBlock asks whether the user may keep an owner from being deleted.
func (p *ownerReferences) mayBlock(ctx context.Context, a *admission.Attributes, o metav1.OwnerReference) error {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		return forbid(a, "cannot set blockOwnerDeletion because APIVersion %v is not of the form group/version: %w", o.APIVersion, err)
	}
	plural, namespaced, ok := p.kinds.PluralOf(gv.WithKind(o.Kind))
	if !ok {
		return forbid(a, "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion %v Kind %v", o.APIVersion, o.Kind)
	}
	i := &request.Info{Verb: "update", IsResource: true, Group: gv.Group, Version: gv.Version, Resource: plural, Subresource: "finalizers", Name: o.Name}
	if namespaced {
		i.Namespace = a.Namespace
	}
	if ok, why := p.access.Allow(ctx, a.User, i); !ok {
		return forbid(a, "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: %s", why)
	}
	return nil
}
