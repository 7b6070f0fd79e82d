package resource

import (
	"encoding/json"
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What several kinds have in common: names, lists, taints and tolerations, configurations.

// list checks the items of a list, unless there are too many of them.
func list[T any](items []T, most int, at *field.Path, check func(i *T, at *field.Path) field.ErrorList) field.ErrorList {
	if len(items) > most {
		return field.ErrorList{field.TooMany(at, len(items), most)}
	}
	var errs field.ErrorList
	for i := range items {
		errs = append(errs, check(&items[i], at.Index(i))...)
	}
	return errs
}

// set is list of items of which no two have the same key.
func set[T any, K comparable](items []T, most int, at *field.Path, key func(*T) K, check func(i *T, at *field.Path) field.ErrorList) field.ErrorList {
	errs := list(items, most, at, check)
	if len(items) > most {
		return errs
	}
	seen := sets.New[K]()
	for i := range items {
		k := key(&items[i])
		if seen.Has(k) {
			errs = append(errs, field.Duplicate(at.Index(i), k))
		}
		seen.Insert(k)
	}
	return errs
}

func itself[T comparable](v *T) T { return *v }

func invalid(at *field.Path, value any, msgs []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

func label(name string, at *field.Path) field.ErrorList {
	return invalid(at, name, validation.IsDNS1123Label(name))
}

func neededLabel(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return label(name, at)
}

func subdomain(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return invalid(at, name, validation.IsDNS1123Subdomain(name))
}

func driver(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if len(name) > resourcev1.DriverNameMaxLength {
		errs = append(errs, field.TooLong(at, name, resourcev1.DriverNameMaxLength))
	}
	return append(errs, invalid(at, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))...)
}

func pool(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if len(name) > resourcev1.PoolNameMaxLength {
		errs = append(errs, field.TooLong(at, "", resourcev1.PoolNameMaxLength))
	}
	for part := range strings.SplitSeq(name, "/") {
		errs = append(errs, invalid(at, part, validation.IsDNS1123Subdomain(part))...)
	}
	return errs
}

// qualified checks the name of an attribute or a capacity: an identifier, after a domain and a slash where full says so.
func qualified(name string, full bool, at *field.Path) field.ErrorList {
	domain, id, ok := strings.Cut(name, "/")
	if !ok {
		domain, id = "", name
	}
	var errs field.ErrorList
	switch {
	case !ok && full:
		errs = append(errs, field.Invalid(at, name, "a fully qualified name must be a domain and a name separated by a slash"))
	case ok && domain == "":
		errs = append(errs, field.Invalid(at, "", "the domain must not be empty"))
	case ok:
		errs = append(errs, driver(domain, at)...)
	}
	if ok && id == "" {
		return append(errs, field.Invalid(at, "", "the name must not be empty"))
	}
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(at, "", resourcev1.DeviceMaxIDLength))
	}
	return append(errs, invalid(at, id, validation.IsCIdentifier(id))...)
}

var (
	effects   = sets.New(resourcev1.DeviceTaintEffectNone, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNoExecute)
	operators = []resourcev1.DeviceTolerationOperator{resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists}
)

func taint(t *resourcev1.DeviceTaint, at *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabelName(t.Key, at.Child("key"))
	errs = append(errs, invalid(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
	if t.Effect == "" {
		return append(errs, field.Required(at.Child("effect"), ""))
	}
	if !effects.Has(t.Effect) {
		errs = append(errs, field.NotSupported(at.Child("effect"), t.Effect, sets.List(effects)))
	}
	return errs
}

func toleration(t *resourcev1.DeviceToleration, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t.Key != "" {
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
	}
	switch t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		if t.Value != "" {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be empty for operator `Exists`"))
		}
	case resourcev1.DeviceTolerationOpEqual:
		errs = append(errs, invalid(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
	case "":
		errs = append(errs, field.Required(at.Child("operator"), ""))
	default:
		errs = append(errs, field.NotSupported(at.Child("operator"), t.Operator, operators))
	}
	if t.Effect != "" && !effects.Has(t.Effect) {
		errs = append(errs, field.NotSupported(at.Child("effect"), t.Effect, sets.List(effects)))
	}
	return errs
}

func selector(s *resourcev1.DeviceSelector, at *field.Path) field.ErrorList {
	if s.CEL == nil {
		return field.ErrorList{field.Required(at.Child("cel"), "")}
	}
	return expression(s.CEL.Expression, at.Child("cel", "expression"))
}

func expression(text string, at *field.Path) field.ErrorList {
	switch {
	case strings.TrimSpace(text) == "":
		return field.ErrorList{field.Required(at, "")}
	case len(text) > resourcev1.CELSelectorExpressionMaxLength:
		return field.ErrorList{field.TooLong(at, "", resourcev1.CELSelectorExpressionMaxLength)}
	}
	return nil
}

func configuration(c *resourcev1.DeviceConfiguration, at *field.Path) field.ErrorList {
	if c.Opaque == nil {
		return field.ErrorList{field.Required(at.Child("opaque"), "")}
	}
	at = at.Child("opaque")
	return append(driver(c.Opaque.Driver, at.Child("driver")), object(&c.Opaque.Parameters, resourcev1.OpaqueParametersMaxLength, at.Child("parameters"))...)
}

// object wants a JSON object that is not too long.
func object(raw *runtime.RawExtension, most int, at *field.Path) field.ErrorList {
	if len(raw.Raw) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	if len(raw.Raw) > most {
		return field.ErrorList{field.TooLong(at, "", most)}
	}
	var v any
	if err := json.Unmarshal(raw.Raw, &v); err != nil {
		return field.ErrorList{field.Invalid(at, "<value omitted>", fmt.Sprintf("error parsing data as JSON: %v", err))}
	}
	if v == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	if _, ok := v.(map[string]any); !ok {
		return field.ErrorList{field.Invalid(at, "<value omitted>", "must be a valid JSON object")}
	}
	return nil
}

// bindings checks the conditions that a device's binding waits for, and those that end it.
func bindings(conditions, failures []string, at *field.Path) field.ErrorList {
	name := func(s *string, at *field.Path) field.ErrorList { return metav1validation.ValidateLabelName(*s, at) }
	errs := set(conditions, resourcev1.BindingConditionsMaxSize, at.Child("bindingConditions"), itself, name)
	errs = append(errs, set(failures, resourcev1.BindingFailureConditionsMaxSize, at.Child("bindingFailureConditions"), itself, name)...)
	both := sets.New(conditions...)
	for i, f := range failures {
		if both.Has(f) {
			errs = append(errs, field.Invalid(at.Child("bindingFailureConditions").Index(i), f, "bindingFailureConditions must not overlap with bindingConditions"))
		}
	}
	if len(conditions) == 0 && len(failures) > 0 {
		errs = append(errs, field.Invalid(at.Child("bindingConditions"), conditions, "bindingConditions are required to use bindingFailureConditions"))
	}
	if len(failures) == 0 && len(conditions) > 0 {
		errs = append(errs, field.Invalid(at.Child("bindingFailureConditions"), failures, "bindingFailureConditions are required to use bindingConditions"))
	}
	return errs
}
