package apps

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// DaemonSets keep a pod on every node.
var DaemonSets = registry.Define(registry.Kind[*appsv1.DaemonSet]{
	Group: "apps", Version: "v1", Kind: "DaemonSet", Plural: "daemonsets", Short: []string{"ds"}, Categories: []string{"all"},
	Namespaced: true, Status: true, Generation: true,
	Default: defaultDaemonSet,
	BeforeCreate: func(d *appsv1.DaemonSet) {
		d.Status = appsv1.DaemonSetStatus{}
		countTemplates(d, 1)
	},
	BeforeUpdate:   bumpTemplate,
	Validate:       validateDaemonSet,
	ValidateUpdate: validateDaemonSetUpdate,
	ValidateStatus: validateDaemonSetStatus,
	Warn: func(d, old *appsv1.DaemonSet) []string {
		var was *corev1.PodTemplateSpec
		if old != nil {
			was = &old.Spec.Template
		}
		return podspec.WarnTemplate(&d.Spec.Template, was, templatePath)
	},
	Columns: append([]registry.Column[*appsv1.DaemonSet]{
		daemons("Desired", "Nodes that should run the pod.", func(s *appsv1.DaemonSetStatus) int32 { return s.DesiredNumberScheduled }),
		daemons("Current", "Nodes that run at least one.", func(s *appsv1.DaemonSetStatus) int32 { return s.CurrentNumberScheduled }),
		daemons("Ready", "Nodes on which it is ready.", func(s *appsv1.DaemonSetStatus) int32 { return s.NumberReady }),
		daemons("Up-to-date", "Nodes on which it is of the newest template.", func(s *appsv1.DaemonSetStatus) int32 { return s.UpdatedNumberScheduled }),
		daemons("Available", "Nodes on which it has been ready long enough.", func(s *appsv1.DaemonSetStatus) int32 { return s.NumberAvailable }),
		{Name: "Node Selector", Description: "Which nodes should run it.", Value: func(d *appsv1.DaemonSet) any {
			return podspec.LabelsText(d.Spec.Template.Spec.NodeSelector)
		}},
		registry.Age[*appsv1.DaemonSet](),
	}, templateColumns(func(d *appsv1.DaemonSet) (*corev1.PodTemplateSpec, *metav1.LabelSelector) {
		return &d.Spec.Template, d.Spec.Selector
	})...),
})

func daemons(name, about string, of func(*appsv1.DaemonSetStatus) int32) registry.Column[*appsv1.DaemonSet] {
	return registry.Column[*appsv1.DaemonSet]{Name: name, Type: "integer", Description: about, Value: func(d *appsv1.DaemonSet) any { return int64(of(&d.Status)) }}
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	s := &d.Spec
	if s.UpdateStrategy.Type == "" {
		s.UpdateStrategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if s.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if s.UpdateStrategy.RollingUpdate == nil {
			s.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
		}
		r := s.UpdateStrategy.RollingUpdate
		if r.MaxUnavailable == nil {
			r.MaxUnavailable = ptr.To(intstr.FromInt32(1))
		}
		if r.MaxSurge == nil {
			r.MaxSurge = ptr.To(intstr.FromInt32(0))
		}
	}
	if s.RevisionHistoryLimit == nil {
		s.RevisionHistoryLimit = ptr.To[int32](10)
	}
	podspec.DefaultTemplate(&s.Template)
}

// countTemplates writes down the number of the template, which older controllers put into the labels of pods.
func countTemplates(d *appsv1.DaemonSet, n int64) {
	d.Annotations = maps.Clone(d.Annotations)
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
}

// bumpTemplate counts the changes of the template.
func bumpTemplate(d, old *appsv1.DaemonSet) {
	n, err := strconv.ParseInt(old.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil || n < 1 {
		n = 1 // an object that was not counted yet
	}
	if !apiequality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
		n++
	}
	countTemplates(d, n)
}

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	spec, s := field.NewPath("spec"), &d.Spec
	errs := validateSelector(s.Selector, "daemonset", spec.Child("selector"))
	errs = append(errs, validateTemplate(&s.Template, s.Selector, "DaemonSet", spec.Child("template"))...)
	errs = append(errs, atLeast(spec, number{"minReadySeconds", int64(s.MinReadySeconds)})...)
	errs = append(errs, validateDaemonStrategy(&s.UpdateStrategy, spec.Child("updateStrategy"))...)
	if s.RevisionHistoryLimit != nil {
		errs = append(errs, atLeast(spec, number{"revisionHistoryLimit", int64(*s.RevisionHistoryLimit)})...)
	}
	return errs
}

var daemonStrategies = sets.New(appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType)

func validateDaemonStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	if !daemonStrategies.Has(s.Type) {
		return field.ErrorList{field.NotSupported(path, s.Type, sets.List(daemonStrategies))}
	}
	if s.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return nil
	}
	path = path.Child("rollingUpdate")
	if s.RollingUpdate == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	down, up := ptr.Deref(s.RollingUpdate.MaxUnavailable, intstr.IntOrString{}), ptr.Deref(s.RollingUpdate.MaxSurge, intstr.IntOrString{})
	var errs field.ErrorList
	errs = append(errs, validateCountOrShare(down, path.Child("maxUnavailable"))...)
	errs = append(errs, validateCountOrShare(up, path.Child("maxSurge"))...)
	errs = append(errs, validateNotAboveAll(down, path.Child("maxUnavailable"))...)
	errs = append(errs, validateNotAboveAll(up, path.Child("maxSurge"))...)
	switch {
	case amount(down) != 0 && amount(up) != 0:
		errs = append(errs, field.Invalid(path.Child("maxSurge"), &up, "may not be set when maxUnavailable is non-zero"))
	case amount(down) == 0 && amount(up) == 0:
		errs = append(errs, field.Required(path.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

func validateDaemonSetUpdate(d, old *appsv1.DaemonSet) field.ErrorList {
	return apivalidation.ValidateImmutableField(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))
}

func validateDaemonSetStatus(d, old *appsv1.DaemonSet) field.ErrorList {
	path, s := field.NewPath("status"), &d.Status
	errs := atLeast(path,
		number{"currentNumberScheduled", int64(s.CurrentNumberScheduled)},
		number{"numberMisscheduled", int64(s.NumberMisscheduled)},
		number{"desiredNumberScheduled", int64(s.DesiredNumberScheduled)},
		number{"numberReady", int64(s.NumberReady)},
		number{"observedGeneration", s.ObservedGeneration},
		number{"updatedNumberScheduled", int64(s.UpdatedNumberScheduled)},
		number{"numberAvailable", int64(s.NumberAvailable)},
		number{"numberUnavailable", int64(s.NumberUnavailable)},
		number{"collisionCount", int64(ptr.Deref(s.CollisionCount, 0))})
	return append(errs, notDecremented(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}
