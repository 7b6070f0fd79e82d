package probes

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// settings are a probe's numbers with the API's defaults, which the files of static pods may lack.
type settings struct {
	delay, period, timeout time.Duration
	successes, failures    int
}

func settingsOf(p *corev1.Probe) settings {
	or := func(v, def int32) int32 {
		if v > 0 {
			return v
		}
		return def
	}
	return settings{
		delay:     time.Duration(p.InitialDelaySeconds) * time.Second,
		period:    time.Duration(or(p.PeriodSeconds, 10)) * time.Second,
		timeout:   time.Duration(or(p.TimeoutSeconds, 1)) * time.Second,
		successes: int(or(p.SuccessThreshold, 1)),
		failures:  int(or(p.FailureThreshold, 3)),
	}
}

// verdict counts tries in a row. Until a threshold is reached for the first time it is not known.
type verdict struct {
	settings
	healthy, known bool

	last bool
	row  int
}

// count takes one try and says whether the verdict changed by it.
func (v *verdict) count(ok bool) bool {
	if v.row == 0 || ok != v.last {
		v.last, v.row = ok, 0
	}
	v.row++
	need := v.failures
	if ok {
		need = v.successes
	}
	if v.row < need || v.known && v.healthy == ok {
		return false
	}
	v.healthy, v.known = ok, true
	return true
}
