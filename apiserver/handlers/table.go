package handlers

import (
	"encoding/json"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/audit"
	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
)

var tableKind = schema.GroupVersionKind{Group: "meta.k8s.io", Version: "v1", Kind: "Table"}

// table writes served objects as the rows of a Table.
func (v *view) table(w http.ResponseWriter, code int, objs []registry.Object, meta metav1.ListMeta) error {
	t, err := v.tableOf(objs, meta, true)
	if err != nil {
		return err
	}
	audit.Answered(v.record, t, tableKind)
	b, err := codec.Encode(t, tableKind, v.a)
	if err != nil {
		return err
	}
	writeBody(w, v.a, code, b)
	return nil
}

func (v *view) tableOf(objs []registry.Object, meta metav1.ListMeta, columns bool) (*metav1.Table, error) {
	t := &metav1.Table{ListMeta: meta, Rows: make([]metav1.TableRow, 0, len(objs))}
	t.SetGroupVersionKind(tableKind)
	if columns {
		t.ColumnDefinitions = v.res.Columns
	}
	for _, obj := range objs {
		row := metav1.TableRow{Cells: v.res.Cells(obj)}
		var err error
		switch v.include {
		case metav1.IncludeMetadata:
			row.Object.Raw, err = json.Marshal(partialOf(obj))
		case metav1.IncludeObject:
			obj.GetObjectKind().SetGroupVersionKind(v.res.GVK)
			row.Object.Raw, err = json.Marshal(obj)
		}
		if err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}
