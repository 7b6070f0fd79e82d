// Package registry knows every kind the server serves: Kind is what a kind declares (one value in its file under resources),
// Resource its erased form, and Registry finds a Resource by group, version and plural, also while custom ones come and go.
//
// A kind's functions are pure: they see objects only, have no dependencies, and are called by the one write path
// (handlers/write.go) in this order: Default · admission mutates · BeforeCreate or BeforeUpdate · Validate (and
// ValidateUpdate) · admission validates · store. What follows from the kind's shape is done by this package and need not be
// declared: status is kept apart from spec when Status is set (Status belongs to the status subresource only), metadata is
// defaulted and validated (names, labels, annotations, owner references, finalizers, immutable fields), generation is 1 at
// creation and grows when anything but metadata and status changes when Generation is set.
package registry

import (
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is any API object.
type Object interface {
	runtime.Object
	metav1.Object
}

// Kind declares one kind in its stored version. Everything but the identity may be empty.
type Kind[T Object] struct {
	Group, Version, Kind, Plural string
	Singular                     string // empty: Kind in lower case
	Short, Categories            []string
	Namespaced                   bool
	Verbs                        []string // nil: create delete deletecollection get list patch update watch

	Status     bool // has a status subresource; needs a field Status
	Generation bool // metadata.generation counts changes of anything but metadata and status
	Scale      *Scale[T]
	Parts      []Part[T]

	// Virtual says that objects are never stored: every request on the resource itself goes to the action of no name that is
	// attached to it (see actions.Attach). Of a virtual kind only the identity, Verbs, Columns and Validate count.
	Virtual bool

	// Default fills what the caller left out. It must be idempotent. It is called on what comes in and never on what is
	// read back.
	Default func(obj T)
	// BeforeCreate clears and sets what the server owns in a new object.
	BeforeCreate func(obj T)
	// BeforeUpdate does so in a changed one, for example keeps what is write-once. Status is already the old one.
	BeforeUpdate func(obj, old T)
	// BeforeStatus does so in a status update. Everything but status, labels, annotations and finalizers is already the old.
	BeforeStatus func(obj, old T)

	// Name checks a name (or, with prefix, a generateName); nil: a DNS subdomain (RFC 1123). Like
	// k8s.io/apimachinery/pkg/api/validation.ValidateNameFunc.
	Name func(name string, prefix bool) []string
	// Validate checks a whole object, at create and update; metadata is already checked.
	Validate func(obj T) field.ErrorList
	// ValidateUpdate checks what may not change (in addition to Validate).
	ValidateUpdate func(obj, old T) field.ErrorList
	// ValidateStatus checks a status update; Validate is not called then.
	ValidateStatus func(obj, old T) field.ErrorList
	// Warn says what is legal but unwise; old is the zero T at create.
	Warn func(obj, old T) []string

	// OnRead fills in a stored object what its stored form does not hold. It must be idempotent. nil: nothing, and reads need no
	// decoding.
	OnRead func(obj T)
	// Deprecated, if set, is the warning that every request on the kind is answered with.
	Deprecated string
	// ReturnsDeleted says that a deletion is answered with the last state of the object instead of a Status. Clients made from the
	// OpenAPI document know no other answer (https://kubernetes.io/docs/reference/kubernetes-api/).
	ReturnsDeleted bool
	// Orphans says that a deletion leaves the dependents alone which does not say what becomes of them, as with the first kinds of
	// Kubernetes; it is then answered with OrphansWarning, if that is set.
	Orphans        bool
	OrphansWarning string

	// Fields are the selectable fields beside metadata.name and metadata.namespace. nil: none, and indexing needs no decoding.
	Fields func(obj T) fields.Set
	// FieldNames are the keys Fields returns, always the same; a selector on another field is refused.
	FieldNames []string

	// Columns follow NAME in Table output. Use Age for the usual last one; Priority 1 shows with -o wide only.
	Columns []Column[T]
	// WholeTable says that Columns are all there are: NAME is not put before them.
	WholeTable bool

	// TTL, if set, makes objects vanish that long after their last write (events).
	TTL func(obj T) time.Duration
	// Grace, if set, makes deletion graceful: it returns how long (seconds) the object stays with a deletionTimestamp, given
	// what the caller asked for (o.GracePeriodSeconds may be nil). 0 removes it at once.
	Grace func(obj T, o *metav1.DeleteOptions) int64
	// OnDelete marks an object whose deletion begins but that stays for now (Grace, Hold or finalizers).
	OnDelete func(obj T)
	// Hold, while true, keeps a deleted object that has no finalizers left (a namespace that is not yet empty).
	Hold func(obj T) bool
}

// Scale maps a kind to autoscaling/v1 Scale.
type Scale[T Object] struct {
	Get func(obj T) autoscalingv1.Scale // spec and status only
	Set func(obj T, replicas int32)
}

// Part declares a subresource through which some of an object may be changed, by the one write path: get, patch and update of
// the whole object at /NAME/part, of which only what Keep leaves alone may differ.
type Part[T Object] struct {
	Name string
	// Keep gives obj everything of old that this subresource may not change. Metadata that the server owns is already the old.
	Keep func(obj, old T)
	// Validate checks the change; Kind.Validate and Kind.ValidateUpdate are not called.
	Validate func(obj, old T) field.ErrorList
}

// Column is one column of Table output.
type Column[T Object] struct {
	Name        string
	Type        string // string, integer, number, boolean, date; empty: string
	Format      string
	Description string
	Priority    int32
	Value       func(obj T) any // string, int64, … or nil
}

// Version declares a further served version of a stored kind, as a pair of functions. S is the served, T the stored type.
type Version[S, T Object] struct {
	Group, Version, Kind, Plural string
	Short, Categories            []string
	Of                           *Resource
	To                           func(stored T) S // must copy what it keeps
	From                         func(served S) T // must copy what it keeps
	Columns                      []Column[S]
	WholeTable                   bool // as in Kind
	// Validate checks what a client sends in this version, in addition to the stored kind's Validate; old is the zero S at
	// create.
	Validate      func(served, old S) field.ErrorList
	FieldNames    []string                   // the served names of selectable fields, when they differ
	FieldToStored func(served string) string // maps such a name to the stored one; nil: same
}
