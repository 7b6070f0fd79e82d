package request

import (
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Selectors are what narrows a request to some objects, for those who decide by it. All requirements must be met; one that cannot be
// read is left out, which makes the request look wider than it is: the handlers will refuse it.
type Selectors struct {
	RawFields, RawLabels string // as the client wrote them
	Fields               fields.Requirements
	Labels               labels.Requirements
}

// Field says whether only objects are selected whose field has the value.
func (s *Selectors) Field(name, value string) bool {
	if s == nil {
		return false
	}
	for _, f := range s.Fields {
		if f.Field == name && f.Value == value && (f.Operator == selection.Equals || f.Operator == selection.DoubleEquals) {
			return true
		}
	}
	return false
}

// Label says whether only objects are selected whose label has the value.
func (s *Selectors) Label(key, value string) bool {
	if s == nil {
		return false
	}
	for _, l := range s.Labels {
		values := l.ValuesUnsorted()
		switch l.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			if l.Key() == key && len(values) == 1 && values[0] == value {
				return true
			}
		}
	}
	return false
}

// ReadSelectors reads both selectors as they stand in a query; the errors say which could not be read. Nil when there are none.
func ReadSelectors(rawFields, rawLabels string) (s *Selectors, ofFields, ofLabels error) {
	if rawFields == "" && rawLabels == "" {
		return nil, nil, nil
	}
	s = &Selectors{RawFields: rawFields, RawLabels: rawLabels}
	if rawFields != "" {
		sel, err := fields.ParseSelector(rawFields)
		if ofFields = err; err == nil {
			s.Fields = sel.Requirements()
		}
	}
	if rawLabels != "" {
		s.Labels, ofLabels = labels.ParseToRequirements(rawLabels)
	}
	return s, ofFields, ofLabels
}

func selectors(r *http.Request) *Selectors {
	if !strings.Contains(r.URL.RawQuery, "elector") {
		return nil // most lists; a name written otherwise (%73elector) only makes the request look wider
	}
	q := r.URL.Query()
	s, _, _ := ReadSelectors(q.Get("fieldSelector"), q.Get("labelSelector")) // what cannot be read is left out
	return s
}
