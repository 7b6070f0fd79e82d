package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/registry"
)

var (
	schemes        = sets.New(corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	httpProtocols  = sets.New(corev1.HTTPProtocolHTTP1, corev1.HTTPProtocolHTTP2)
	grpcModes      = sets.New(corev1.GRPCProbeModePlaintext, corev1.GRPCProbeModeTLS)
	windowsSignals = sets.New(corev1.SIGTERM, corev1.SIGKILL)
)

// linuxSignals are the names that may stand for the signal that ends a container.
func linuxSignals() sets.Set[corev1.Signal] {
	all := sets.New(corev1.SIGRTMIN, corev1.SIGRTMAX)
	for _, name := range strings.Fields("ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG " +
		"USR1 USR2 VTALRM WINCH XCPU XFSZ") {
		all.Insert(corev1.Signal("SIG" + name))
	}
	for i := 1; i <= 15; i++ {
		all.Insert(corev1.Signal(fmt.Sprintf("SIGRTMIN+%d", i)))
	}
	for i := 1; i <= 14; i++ {
		all.Insert(corev1.Signal(fmt.Sprintf("SIGRTMAX-%d", i)))
	}
	return all
}

// handler is what probes and lifecycle hooks can do, in one form.
type handler struct {
	exec  *corev1.ExecAction
	http  *corev1.HTTPGetAction
	tcp   *corev1.TCPSocketAction
	grpc  *corev1.GRPCAction
	sleep *corev1.SleepAction
}

// validateHandler checks that exactly one thing is to be done, and that thing; grace bounds a sleep.
func validateHandler(h handler, grace *int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	set := 0
	only := func(name string) bool {
		if set++; set > 1 {
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 handler type"))
		}
		return set == 1
	}
	if h.exec != nil && only("exec") && len(h.exec.Command) == 0 {
		errs = append(errs, field.Required(path.Child("exec").Child("command"), ""))
	}
	if h.http != nil && only("httpGet") {
		errs = append(errs, validateHTTPGet(h.http, path.Child("httpGet"))...)
	}
	if h.tcp != nil && only("tcpSocket") {
		errs = append(errs, validatePort(h.tcp.Port, path.Child("tcpSocket").Child("port"))...)
	}
	if h.grpc != nil && only("grpc") {
		errs = append(errs, registry.Invalid(h.grpc.Port, validation.IsValidPortNum(int(h.grpc.Port)), path.Child("grpc").Child("port"))...)
		errs = append(errs, oneOfIfSet(h.grpc.Mode, grpcModes, path.Child("grpc").Child("mode"))...)
	}
	if h.sleep != nil && only("sleep") && grace != nil {
		if h.sleep.Seconds < 0 || h.sleep.Seconds > *grace {
			errs = append(errs, field.Invalid(path.Child("sleep"), h.sleep.Seconds,
				fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace)))
		}
	}
	if set == 0 {
		errs = append(errs, field.Required(path, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(h *corev1.HTTPGetAction, path *field.Path) field.ErrorList {
	errs := required(h.Path, path.Child("path"))
	errs = append(errs, validatePort(h.Port, path.Child("port"))...)
	if !schemes.Has(h.Scheme) {
		errs = append(errs, field.NotSupported(path.Child("scheme"), h.Scheme, sets.List(schemes)))
	}
	for _, header := range h.HTTPHeaders {
		errs = append(errs, registry.Invalid(header.Name, validation.IsHTTPHeaderName(header.Name), path.Child("httpHeaders"))...)
	}
	return append(errs, oneOfIfSet(h.Protocol, httpProtocols, path.Child("protocol"))...)
}

func validatePort(p intstr.IntOrString, path *field.Path) field.ErrorList {
	if p.Type == intstr.Int {
		return registry.Invalid(p.IntValue(), validation.IsValidPortNum(p.IntValue()), path)
	}
	return registry.Invalid(p.StrVal, validation.IsValidPortName(p.StrVal), path)
}

func validateProbe(p *corev1.Probe, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateHandler(handler{exec: p.Exec, http: p.HTTPGet, tcp: p.TCPSocket, grpc: p.GRPC}, nil, path)
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(p.InitialDelaySeconds), path.Child("initialDelaySeconds"))...)
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(p.TimeoutSeconds), path.Child("timeoutSeconds"))...)
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(p.PeriodSeconds), path.Child("periodSeconds"))...)
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(p.SuccessThreshold), path.Child("successThreshold"))...)
	errs = append(errs, apivalidation.ValidateNonnegativeField(int64(p.FailureThreshold), path.Child("failureThreshold"))...)
	if t := p.TerminationGracePeriodSeconds; t != nil && *t <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *t, "must be greater than 0"))
	}
	return errs
}

// validateOncePassed checks a probe that is satisfied by one success.
func validateOncePassed(p *corev1.Probe, path *field.Path) field.ErrorList {
	errs := validateProbe(p, path)
	if p != nil && p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	return errs
}

func validateLifecycle(l *corev1.Lifecycle, s *corev1.PodSpec, path *field.Path) field.ErrorList {
	if l == nil {
		return nil
	}
	var errs field.ErrorList
	hook := func(h *corev1.LifecycleHandler, name string) {
		if h != nil {
			errs = append(errs, validateHandler(handler{exec: h.Exec, http: h.HTTPGet, tcp: h.TCPSocket, sleep: h.Sleep},
				s.TerminationGracePeriodSeconds, path.Child(name))...)
		}
	}
	hook(l.PostStart, "postStart")
	hook(l.PreStop, "preStop")
	if l.StopSignal == nil {
		return errs
	}
	switch at := path.Child("stopSignal"); {
	case s.OS == nil:
		errs = append(errs, field.Forbidden(at, "may not be set for containers with empty `spec.os.name`"))
	case s.OS.Name == corev1.Windows:
		errs = append(errs, oneOfIfSet(l.StopSignal, windowsSignals, at)...)
	default:
		errs = append(errs, oneOfIfSet(l.StopSignal, linuxSignals(), at)...)
	}
	return errs
}
