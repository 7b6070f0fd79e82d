// Package apiextensions declares the kinds of the group apiextensions.k8s.io, a file each; see resources/core for what a kind's
// file holds. Serving what a definition defines, and all that takes evaluating it (defaults against their schemas, CEL rules), is
// the room crd's.
package apiextensions

import (
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
)

// CustomResourceDefinitions define kinds of the user's own.
var CustomResourceDefinitions = registry.Define(registry.Kind[*apiextensionsv1.CustomResourceDefinition]{
	Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition", Plural: "customresourcedefinitions",
	Short: []string{"crd", "crds"}, Categories: []string{"api-extensions"},
	Status: true, Generation: true,
	Name:    func(name string, _ bool) []string { return content.IsPathSegmentName(name) }, // what it must be, validateDefinition knows
	Default: defaultDefinition,
	BeforeCreate: func(d *apiextensionsv1.CustomResourceDefinition) {
		d.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
		noteStored(d)
	},
	BeforeUpdate:   func(d, _ *apiextensionsv1.CustomResourceDefinition) { noteStored(d) },
	Validate:       validateDefinition,
	ValidateUpdate: validateDefinitionUpdate,
	ValidateStatus: validateDefinitionStatus,
	Columns: []registry.Column[*apiextensionsv1.CustomResourceDefinition]{
		{Name: "Created At", Type: "date", Description: "When the object was created.", Value: func(d *apiextensionsv1.CustomResourceDefinition) any {
			return d.CreationTimestamp.UTC().Format(time.RFC3339)
		}},
	},
})

func defaultDefinition(d *apiextensionsv1.CustomResourceDefinition) {
	names := &d.Spec.Names
	if names.Singular == "" {
		names.Singular = strings.ToLower(names.Kind)
	}
	if names.ListKind == "" && names.Kind != "" {
		names.ListKind = names.Kind + "List"
	}
	if d.Spec.Conversion == nil {
		d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.NoneConverter}
	}
	if w := d.Spec.Conversion.Webhook; w != nil && w.ClientConfig != nil && w.ClientConfig.Service != nil && w.ClientConfig.Service.Port == nil {
		w.ClientConfig.Service.Port = ptr.To[int32](443)
	}
}

// noteStored adds the version that objects are stored in to those that objects may be found in.
func noteStored(d *apiextensionsv1.CustomResourceDefinition) {
	for _, v := range d.Spec.Versions {
		if v.Storage && !slices.Contains(d.Status.StoredVersions, v.Name) {
			d.Status.StoredVersions = append(slices.Clone(d.Status.StoredVersions), v.Name) // the old object shares it
			return
		}
	}
}
