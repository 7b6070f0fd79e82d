package actions

import (
	"net/http"

	corev1 "k8s.io/api/core/v1"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// finalize replaces a namespace's spec.finalizers: PUT namespaces/NAME/finalize. When none is left and the namespace is being
// deleted, it is gone.
func (p Parts) finalize(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	sent := &corev1.Namespace{}
	if err := read(r, core("Namespace"), sent); err != nil {
		return err
	}
	obj, err := p.Write.Mutate(r.Context(), on, storage.Key{Name: i.Name}, "finalize", dryRun(r), func(old registry.Object) (registry.Object, error) {
		ns := old.(*corev1.Namespace)
		ns.Spec.Finalizers = sent.Spec.Finalizers
		ns.ResourceVersion = sent.ResourceVersion
		ns.UID = sent.UID
		return ns, nil
	})
	if err != nil {
		return err
	}
	return write(w, r, http.StatusOK, obj, core("Namespace"))
}
