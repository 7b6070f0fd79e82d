package cronjob

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// schedule is a list of times without end, as text and zone say it. Asking for one costs a bounded number of steps, however long
// ago the last one was: units of the calendar that do not fit are passed over whole, months first.
type schedule struct {
	calendar *cron.SpecSchedule // of minutes; nil: every so often
	zone     *time.Location     // of the calendar
	every    time.Duration      // after the last time, or the first after the creation
}

// parse reads what spec.schedule and spec.timeZone say. Without a zone it is that of this process
// (https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#time-zones).
func parse(text string, zone *string) (schedule, *note) {
	s := schedule{zone: time.Local}
	if zone != nil {
		var err error
		if s.zone, err = time.LoadLocation(*zone); err != nil {
			return s, warn("UnknownTimeZone", fmt.Sprintf("invalid timeZone: %q: %s", *zone, err))
		}
	}
	if strings.Contains(text, "TZ") { // the API server refuses it
		return s, warn("UnsupportedSchedule", fmt.Sprintf("CRON_TZ or TZ used in schedule %q is not supported, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", text))
	}
	parsed, err := cron.ParseStandard(text)
	if err != nil {
		return s, warn("UnparseableSchedule", fmt.Sprintf("unparseable schedule: %q : %s", text, err))
	}
	switch p := parsed.(type) {
	case *cron.SpecSchedule:
		s.calendar = p
	case cron.ConstantDelaySchedule:
		s.every = p.Delay
	default:
		return s, warn("UnparseableSchedule", fmt.Sprintf("unparseable schedule: %q : it is a %T", text, parsed))
	}
	return s, nil
}

// next is the first time that is later than since and than now, zero when there is none.
func (s schedule) next(since, now time.Time) time.Time {
	if s.calendar == nil {
		return since.Add((max(now.Sub(since), 0)/s.every + 1) * s.every)
	}
	if since.After(now) {
		now = since
	}
	return s.after(now)
}

// due is the last time that is later than since and not later than now, zero when there is none.
func (s schedule) due(since, now time.Time) time.Time {
	if s.calendar == nil {
		if n := now.Sub(since) / s.every; n > 0 {
			return since.Add(n * s.every)
		}
		return time.Time{}
	}
	return s.before(since, now)
}

// missed counts the times later than since and not later than until, which is one of them, up to most.
func (s schedule) missed(since, until time.Time, most int) int {
	if s.calendar == nil {
		return int(min(until.Sub(since)/s.every, time.Duration(most)))
	}
	n := 0
	for t := until; !t.IsZero() && n < most; t = s.before(since, t.Add(-time.Minute)) {
		n++
	}
	return n
}

// horizon bounds a search: a 29 February comes after eight years at the latest.
const horizon = 9

// after is the first time of the calendar that is later than t. A time is every minute whose reading of the clock in the zone
// fits: one that is left out when summer begins does not come, one that is there twice when it ends comes twice.
func (s schedule) after(t time.Time) time.Time {
	t = t.Truncate(time.Minute).Add(time.Minute).In(s.zone)
	for limit := t.AddDate(horizon, 0, 0); t.Before(limit); {
		u := s.unfit(t)
		if u == none {
			return t
		}
		to := t.Add(u.left(t))
		if _, change := t.ZoneBounds(); !change.IsZero() && to.After(change) { // the clock is put forward or back before that
			to = change
		}
		t = to
	}
	return time.Time{}
}

// before is the last time of the calendar that is not later than t but later than since.
func (s schedule) before(since, t time.Time) time.Time {
	t = t.Truncate(time.Minute).In(s.zone)
	for limit := t.AddDate(-horizon, 0, 0); t.After(since) && t.After(limit); {
		u := s.unfit(t)
		if u == none {
			return t
		}
		to := t.Add(-u.gone(t))
		if change, _ := t.ZoneBounds(); !change.IsZero() && to.Before(change) {
			to = change
		}
		t = to.Add(-time.Minute)
	}
	return time.Time{}
}

// unit is a part of the calendar in which no time fits.
type unit int

const (
	none unit = iota
	minute
	hour
	day
	month
)

// unfit is the greatest unit around t that does not fit.
func (s schedule) unfit(t time.Time) unit {
	c := s.calendar
	switch {
	case !has(c.Month, int(t.Month())):
		return month
	case !s.fitsDay(t):
		return day
	case !has(c.Hour, t.Hour()):
		return hour
	case !has(c.Minute, t.Minute()):
		return minute
	}
	return none
}

// star is the bit by which the parser says that a field was left open.
const star = 63

// fitsDay follows crontab(5): when both the day of the month and that of the week are given, either will do.
func (s schedule) fitsDay(t time.Time) bool {
	ofMonth, ofWeek := has(s.calendar.Dom, t.Day()), has(s.calendar.Dow, int(t.Weekday()))
	if has(s.calendar.Dom, star) || has(s.calendar.Dow, star) {
		return ofMonth && ofWeek
	}
	return ofMonth || ofWeek
}

func has(bits uint64, n int) bool { return bits>>n&1 == 1 }

// gone is how long ago the unit began, were the clock never put forward or back; t is a full minute.
func (u unit) gone(t time.Time) time.Duration {
	switch u {
	case hour:
		return time.Duration(t.Minute()) * time.Minute
	case day:
		return time.Duration(t.Hour())*time.Hour + hour.gone(t)
	case month:
		return time.Duration(t.Day()-1)*24*time.Hour + day.gone(t)
	}
	return 0
}

// left is how long it is until the unit has ended, were the clock never put forward or back.
func (u unit) left(t time.Time) time.Duration {
	whole := time.Minute
	switch u {
	case hour:
		whole = time.Hour
	case day:
		whole = 24 * time.Hour
	case month:
		whole = time.Duration(time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()) * 24 * time.Hour
	}
	return whole - u.gone(t)
}
