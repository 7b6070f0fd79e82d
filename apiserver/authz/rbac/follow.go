package rbac

import (
	"context"
	"errors"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"

	"pilothouse.dev/apiserver/authz"
	"pilothouse.dev/apiserver/authz/rules"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/storage"
)

// follow is one kind that the index is made of.
type follow struct {
	feed  authz.Feed
	reset func()
	apply func(e *storage.Entry, gone bool) error // decodes and compiles before it takes the lock
}

// refresh brings the index up to what the feeds have now. An error says what is not known; what is known stays.
func (e *Engine) refresh(ctx context.Context) error {
	behind := false
	for i := range e.follows {
		behind = behind || e.follows[i].feed.Behind()
	}
	if !behind {
		return nil
	}
	e.pulling.Lock()
	defer e.pulling.Unlock()
	var failed []error
	for _, f := range e.follows {
		if !f.feed.Behind() {
			continue
		}
		err := f.feed.Pull(ctx, f.reset, func(ev storage.Event) {
			if err := f.apply(ev.Entry, ev.Type == storage.Deleted); err != nil {
				failed = append(failed, err)
			}
		})
		if err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (e *Engine) change(f func(x *index)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e.index)
}

// dropRoles forgets the cluster roles, or all others.
func (e *Engine) dropRoles(cluster bool) func() {
	return func() {
		e.change(func(x *index) {
			for key := range x.roles {
				if (key.Namespace == "") == cluster {
					x.dropRole(key)
				}
			}
		})
	}
}

func (e *Engine) dropBindings(cluster bool) func() {
	return func() {
		e.change(func(x *index) {
			for key := range x.bindings {
				if (key.Namespace == "") == cluster {
					x.dropBinding(key)
				}
			}
		})
	}
}

func (e *Engine) clusterRole(from *storage.Entry, gone bool) error {
	var r rbacv1.ClusterRole
	return e.putRole(from, gone, &r, &r.Rules)
}

func (e *Engine) role(from *storage.Entry, gone bool) error {
	var r rbacv1.Role
	return e.putRole(from, gone, &r, &r.Rules)
}

func (e *Engine) putRole(from *storage.Entry, gone bool, into codec.Object, policy *[]rbacv1.PolicyRule) error {
	if !gone {
		if err := codec.Unmarshal(from.Value, from.Revision, into); err != nil {
			e.change(func(x *index) { x.dropRole(from.Key) })
			return fmt.Errorf("reading role %s: %w", from.Key, err)
		}
		set := rules.Compile(*policy)
		e.change(func(x *index) { x.putRole(from.Key, *policy, set) })
		return nil
	}
	e.change(func(x *index) { x.dropRole(from.Key) })
	return nil
}

func (e *Engine) clusterRoleBinding(from *storage.Entry, gone bool) error {
	var b rbacv1.ClusterRoleBinding
	return e.putBinding(from, gone, &b, &b.RoleRef, &b.Subjects)
}

func (e *Engine) roleBinding(from *storage.Entry, gone bool) error {
	var b rbacv1.RoleBinding
	return e.putBinding(from, gone, &b, &b.RoleRef, &b.Subjects)
}

func (e *Engine) putBinding(from *storage.Entry, gone bool, into codec.Object, ref *rbacv1.RoleRef, subjects *[]rbacv1.Subject) error {
	if !gone {
		if err := codec.Unmarshal(from.Value, from.Revision, into); err != nil {
			e.change(func(x *index) { x.dropBinding(from.Key) })
			return fmt.Errorf("reading binding %s: %w", from.Key, err)
		}
		named := subjectsOf(from.Key.Namespace, *subjects)
		e.change(func(x *index) { x.putBinding(from.Key, roleKey(from.Key.Namespace, ref), named) })
		return nil
	}
	e.change(func(x *index) { x.dropBinding(from.Key) })
	return nil
}

// roleKey is which role a binding in a namespace names.
func roleKey(namespace string, ref *rbacv1.RoleRef) storage.Key {
	switch {
	case ref.Kind == "ClusterRole":
		return storage.Key{Name: ref.Name}
	case namespace == "": // validation refuses it; no such role exists
		return storage.Key{}
	}
	return storage.Key{Namespace: namespace, Name: ref.Name}
}
