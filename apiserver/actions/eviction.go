package actions

import (
	"fmt"
	"net/http"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
)

// evict deletes a pod on behalf of a drain: POST pods/NAME/eviction. (Disruption budgets have their say here once they are
// served.)
func (p Parts) evict(w http.ResponseWriter, r *http.Request, on *registry.Resource, i *request.Info) error {
	e := &policyv1.Eviction{}
	if err := read(r, policyv1.SchemeGroupVersion.WithKind("Eviction"), e); err != nil {
		return err
	}
	if e.Name != "" && e.Name != i.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("name in URL does not match name in Eviction object: %q, %q", i.Name, e.Name))
	}
	o := e.DeleteOptions
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	if dryRun(r) {
		o.DryRun = []string{metav1.DryRunAll}
	}
	if _, _, err := p.Write.Delete(r.Context(), on, keyOf(i), o); err != nil {
		return err
	}
	return created(w, r)
}
