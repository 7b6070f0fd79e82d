package batch

import (
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // for machines without a database of zones, as the documentation of timeZone promises

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/resources/podspec"
)

// CronJobs make jobs at given times.
var CronJobs = registry.Define(registry.Kind[*batchv1.CronJob]{
	Group: "batch", Version: "v1", Kind: "CronJob", Plural: "cronjobs", Short: []string{"cj"}, Categories: []string{"all"},
	Namespaced: true, Status: true, Generation: true,
	Default: defaultCronJob,
	BeforeCreate: func(c *batchv1.CronJob) {
		c.Status = batchv1.CronJobStatus{}
		c.Spec.JobTemplate.Spec.Scheduling = nil // as prepareJob does
	},
	BeforeUpdate: func(c, old *batchv1.CronJob) {
		c.Spec.JobTemplate.Spec.Scheduling = old.Spec.JobTemplate.Spec.Scheduling
	},
	Name:     cronJobName,
	Validate: validateCronJob,
	Warn:     warnCronJob,
	Columns: append([]registry.Column[*batchv1.CronJob]{
		{Name: "Schedule", Description: "When it makes a job.", Value: func(c *batchv1.CronJob) any { return c.Spec.Schedule }},
		{Name: "Timezone", Description: "Where that time is meant.", Value: func(c *batchv1.CronJob) any { return ptr.Deref(c.Spec.TimeZone, none) }},
		{Name: "Suspend", Description: "Whether it makes none for now.", Value: func(c *batchv1.CronJob) any { return boolText(c.Spec.Suspend) }},
		{Name: "Active", Type: "integer", Description: "Jobs that are running.", Value: func(c *batchv1.CronJob) any { return int64(len(c.Status.Active)) }},
		{Name: "Last Schedule", Description: "How long ago it made the last one.", Value: func(c *batchv1.CronJob) any {
			if c.Status.LastScheduleTime == nil {
				return none
			}
			return registry.AgeOf(*c.Status.LastScheduleTime)
		}},
		registry.Age[*batchv1.CronJob](),
	}, podspec.TemplateColumns(1,
		func(c *batchv1.CronJob) *corev1.PodTemplateSpec { return &c.Spec.JobTemplate.Spec.Template },
		func(c *batchv1.CronJob) string { return metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector) })...),
})

const none = "<none>" // in a column

func boolText(b *bool) string {
	switch {
	case b == nil:
		return "<unset>"
	case *b:
		return "True"
	}
	return "False"
}

func defaultCronJob(c *batchv1.CronJob) {
	s := &c.Spec
	if s.ConcurrencyPolicy == "" {
		s.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	if s.Suspend == nil {
		s.Suspend = ptr.To(false)
	}
	if s.SuccessfulJobsHistoryLimit == nil {
		s.SuccessfulJobsHistoryLimit = ptr.To[int32](3)
	}
	if s.FailedJobsHistoryLimit == nil {
		s.FailedJobsHistoryLimit = ptr.To[int32](1)
	}
	// What else a job has is filled in when it is made.
	defaultFailurePolicy(s.JobTemplate.Spec.PodFailurePolicy)
	podspec.DefaultTemplate(&s.JobTemplate.Spec.Template)
}

// longestCronJob leaves room for what the controller appends to make the name of a job, which is at most 63 characters.
const longestCronJob = 63 - 11

func cronJobName(name string, prefix bool) []string {
	bad := apivalidation.NameIsDNSSubdomain(name, prefix)
	if !prefix && len(name) > longestCronJob {
		bad = append(bad, "must be no more than 52 characters")
	}
	return bad
}

var concurrencies = []batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}

func validateCronJob(c *batchv1.CronJob) field.ErrorList {
	spec, s := field.NewPath("spec"), &c.Spec
	errs := validateSchedule(s, spec.Child("schedule"))
	errs = append(errs, validateTimeZone(s.TimeZone, spec.Child("timeZone"))...)
	if s.StartingDeadlineSeconds != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(*s.StartingDeadlineSeconds, spec.Child("startingDeadlineSeconds"))...)
	}
	switch policy := spec.Child("concurrencyPolicy"); {
	case s.ConcurrencyPolicy == "":
		errs = append(errs, field.Required(policy, ""))
	case !sets.New(concurrencies...).Has(s.ConcurrencyPolicy):
		errs = append(errs, field.NotSupported(policy, s.ConcurrencyPolicy, concurrencies))
	}
	job, t := spec.Child("jobTemplate", "spec"), &s.JobTemplate.Spec
	errs = append(errs, validateJobSpec(t, job)...)
	if t.Selector != nil {
		errs = append(errs, field.Invalid(job.Child("selector"), t.Selector, "`selector` will be auto-generated"))
	}
	if ptr.Deref(t.ManualSelector, false) {
		errs = append(errs, field.NotSupported(job.Child("manualSelector"), t.ManualSelector, []string{"nil", "false"}))
	}
	if n := s.SuccessfulJobsHistoryLimit; n != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*n), spec.Child("successfulJobsHistoryLimit"))...)
	}
	if n := s.FailedJobsHistoryLimit; n != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*n), spec.Child("failedJobsHistoryLimit"))...)
	}
	return errs
}

// validateSchedule checks the times; the zone they are of is a field of its own.
func validateSchedule(s *batchv1.CronJobSpec, path *field.Path) field.ErrorList {
	if s.Schedule == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if strings.Contains(s.Schedule, "TZ") {
		return field.ErrorList{field.Invalid(path, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")}
	}
	if _, err := cron.ParseStandard(s.Schedule); err != nil {
		return field.ErrorList{field.Invalid(path, s.Schedule, err.Error())}
	}
	return nil
}

// zonePart is a part of a zone's name; see https://data.iana.org/time-zones/theory.html#naming. Digits and plus signs are in
// some old names.
var zonePart = regexp.MustCompile(`^[A-Za-z._0-9+][A-Za-z._0-9+-]{0,13}$`)

func validateTimeZone(zone *string, path *field.Path) field.ErrorList {
	if zone == nil {
		return nil
	}
	if *zone == "" {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be nil or non-empty string")}
	}
	for part := range strings.SplitSeq(*zone, "/") {
		if part == "." || part == ".." || !zonePart.MatchString(part) {
			return field.ErrorList{field.Invalid(path, zone, "unknown time zone "+*zone)}
		}
	}
	if strings.EqualFold(*zone, "Local") {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")}
	}
	if _, err := time.LoadLocation(*zone); err != nil {
		return field.ErrorList{field.Invalid(path, zone, err.Error())}
	}
	return nil
}

func warnCronJob(c, old *batchv1.CronJob) []string {
	path := field.NewPath("spec", "jobTemplate", "spec")
	var out []string
	var was *batchv1.JobSpec
	if old == nil {
		out = podspec.WarnName(c.Name)
	} else {
		was = &old.Spec.JobTemplate.Spec
	}
	return append(out, warnJobSpec(&c.Spec.JobTemplate.Spec, was, path)...)
}
