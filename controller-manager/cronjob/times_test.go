package cronjob

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"k8s.io/utils/ptr"
)

func parsed(t *testing.T, text, zone string) schedule {
	t.Helper()
	s, wrong := parse(text, ptr.To(zone))
	if wrong != nil {
		t.Fatalf("%s in %s: %v", text, zone, wrong.message)
	}
	return s
}

// TestTimes walks from one time to the next, and back again.
func TestTimes(t *testing.T) {
	for name, tc := range map[string]struct {
		text, zone, from string
		want             []string
	}{
		"every minute":        {"* * * * *", "UTC", "2026-01-31T23:58:30Z", []string{"2026-01-31T23:59:00Z", "2026-02-01T00:00:00Z", "2026-02-01T00:01:00Z"}},
		"steps":               {"*/20 6-7 * * *", "UTC", "2026-01-31T06:00:00Z", []string{"2026-01-31T06:20:00Z", "2026-01-31T06:40:00Z", "2026-01-31T07:00:00Z"}},
		"names":               {"0 0 * mar sun", "UTC", "2026-01-31T06:00:00Z", []string{"2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"}},
		"either day will do":  {"0 0 13 * 5", "UTC", "2026-02-01T00:00:00Z", []string{"2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z", "2026-02-27T00:00:00Z", "2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z"}},
		"macros":              {"@weekly", "UTC", "2026-02-01T00:00:00Z", []string{"2026-02-08T00:00:00Z", "2026-02-15T00:00:00Z"}},
		"the end of a month":  {"0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", []string{"2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"}},
		"leap days":           {"0 0 29 2 *", "UTC", "2024-02-29T00:00:00Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
		"no leap day in 2100": {"0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", []string{"2104-02-29T00:00:00Z"}},
		"a zone":              {"0 9 * * *", "Asia/Tokyo", "2026-01-01T00:00:00Z", []string{"2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"}},
		"half an hour beside": {"0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", []string{"2026-01-01T03:30:00Z", "2026-01-02T03:30:00Z"}},
		// 29 March 2026: 02:00 is 03:00. 25 October 2026: 03:00 is 02:00 again.
		"a time that is left out":    {"30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", []string{"2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"}},
		"a time that is there twice": {"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"}},
		"hours go on":                {"0 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"}},
		"the day after":              {"0 0 30 3 *", "Europe/Berlin", "2026-03-29T00:30:00Z", []string{"2026-03-29T22:00:00Z", "2027-03-29T22:00:00Z"}},
		// A day that begins at one o'clock: 26 April 2024.
		"no midnight":              {"0 0 * * *", "Africa/Cairo", "2024-04-24T12:00:00Z", []string{"2024-04-24T22:00:00Z", "2024-04-26T21:00:00Z"}},
		"a day without a midnight": {"0 5 26 4 *", "Africa/Cairo", "2024-04-01T00:00:00Z", []string{"2024-04-26T02:00:00Z", "2025-04-26T02:00:00Z"}},
		"and the day before that":  {"0 5 25 4 *", "Africa/Cairo", "2024-04-25T04:00:00Z", []string{"2025-04-25T02:00:00Z"}},
		"half an hour of summer":   {"45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", []string{"2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-05T15:15:00Z"}},
		"a day that was left out":  {"0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", []string{"2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z"}},
		"every so often":           {"@every 90m", "UTC", "2026-01-01T00:00:10Z", []string{"2026-01-01T01:30:10Z", "2026-01-01T03:00:10Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := parsed(t, tc.text, tc.zone)
			from := at(t, tc.from)
			for last := from; len(tc.want) > 0; tc.want = tc.want[1:] {
				want := at(t, tc.want[0])
				if got := s.next(last, last); !got.Equal(want) {
					t.Fatalf("after %v comes %v, want %v", last.UTC(), got.UTC(), want)
				}
				if got := s.due(last, want.Add(-time.Second)); !got.IsZero() {
					t.Errorf("between %v and %v there is %v", last.UTC(), want, got.UTC())
				}
				for _, now := range []time.Time{want, want.Add(59 * time.Second)} {
					if got := s.due(last, now); !got.Equal(want) {
						t.Errorf("at %v %v is due, want %v", now, got.UTC(), want)
					}
				}
				last = want
			}
		})
	}
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNoTimeEver(t *testing.T) {
	s := parsed(t, "0 0 30 2 *", "America/New_York")
	now := at(t, "2026-01-01T00:00:00Z")
	if got := s.next(now, now); !got.IsZero() {
		t.Errorf("30 February is on %v", got)
	}
	if got := s.due(now.AddDate(-500, 0, 0), now); !got.IsZero() {
		t.Errorf("30 February was on %v", got)
	}
}

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		text, zone, reason string
	}{
		"good":                 {"5 4 * * *", "Europe/Berlin", ""},
		"too few fields":       {"5 4 * *", "UTC", "UnparseableSchedule"},
		"no such minute":       {"60 4 * * *", "UTC", "UnparseableSchedule"},
		"no such macro":        {"@sometimes", "UTC", "UnparseableSchedule"},
		"a zone in it":         {"TZ=UTC 5 4 * * *", "UTC", "UnsupportedSchedule"},
		"nothing but a zone":   {"CRON_TZ=UTC", "UTC", "UnsupportedSchedule"},
		"a zone nobody has":    {"5 4 * * *", "Mars/Olympus", "UnknownTimeZone"},
		"every so often":       {"@every 2h", "UTC", ""},
		"every without a time": {"@every often", "UTC", "UnparseableSchedule"},
	} {
		_, wrong := parse(tc.text, &tc.zone)
		if got := ptr.Deref(wrong, note{}).reason; got != tc.reason {
			t.Errorf("%s: %q, want %q", name, got, tc.reason)
		}
	}
}

// TestAgainstEveryMinute holds the calendar against a look at every minute of some days around changes of the clock.
func TestAgainstEveryMinute(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 2026))
	texts := []string{"* * * * *", "30 2 * * *", "0 0 * * *", "15 */3 * * *", "59 23 * * 6", "0 1 1,15,25-30 * *", "*/7 1-3 * * 0", "0 12 31 * 1"}
	days := map[string][]string{
		"Europe/Berlin": {"2026-03-29", "2026-10-25"}, "America/New_York": {"2026-03-08", "2026-11-01"}, "Africa/Cairo": {"2024-04-26", "2024-11-01"},
		"America/Sao_Paulo": {"2018-11-04", "2018-02-18"}, "Australia/Lord_Howe": {"2026-04-05", "2026-10-04"}, "America/St_Johns": {"2010-03-14", "2010-11-07"},
		"Asia/Beirut": {"2022-03-27", "2022-10-30"}, "Pacific/Apia": {"2011-12-30"}, "UTC": {"2026-01-01"},
	}
	for name, dates := range days {
		for _, date := range dates {
			middle := at(t, date+"T00:00:00Z")
			for _, text := range texts {
				s := parsed(t, text, name)
				var all []time.Time
				for m := middle.AddDate(0, 0, -3); m.Before(middle.AddDate(0, 0, 3)); m = m.Add(time.Minute) {
					if s.unfit(m.In(s.zone)) == none {
						all = append(all, m)
					}
				}
				for range 40 {
					from := middle.Add(time.Duration(random.Int64N(int64(96*time.Hour))) - 48*time.Hour)
					var before, after time.Time
					for _, m := range all {
						if !m.After(from) {
							before = m
						} else if after.IsZero() {
							after = m
						}
					}
					if got := s.after(from); !after.IsZero() && !got.Equal(after) {
						t.Fatalf("%s in %s: after %v comes %v, want %v", text, name, from, got.UTC(), after)
					}
					if got := s.before(middle.AddDate(0, 0, -3).Add(-time.Second), from); !got.Equal(before) && !(got.IsZero() && before.IsZero()) {
						t.Fatalf("%s in %s: before %v there is %v, want %v", text, name, from, got.UTC(), before)
					}
				}
			}
		}
	}
}

// TestAgainstTheLibrary holds the calendar against the library's, whose parser it uses, where no clock is put forward or back.
func TestAgainstTheLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 2026))
	for _, text := range []string{"* * * * *", "0 0 29 2 *", "3-59/15 2,5 * * *", "0 0 1 */3 *", "0 0 13 * 5", "@monthly", "@yearly", "0 22 * * 1-5", "5 0 ? 8 *"} {
		theirs, err := cron.ParseStandard(text)
		if err != nil {
			t.Fatal(err)
		}
		s := parsed(t, text, "UTC")
		for range 500 {
			from := time.Unix(1_700_000_000+random.Int64N(1e9), random.Int64N(1e9)).UTC()
			want := theirs.Next(from)
			if got := s.after(from); !got.Equal(want) {
				t.Fatalf("%s: after %v comes %v, the library says %v", text, from, got, want)
			}
			if got := s.before(from, want.Add(time.Hour)); theirs.Next(want).After(want.Add(time.Hour)) && !got.Equal(want) {
				t.Fatalf("%s: before %v there is %v, want %v", text, want.Add(time.Hour), got, want)
			}
		}
	}
}

func TestMissed(t *testing.T) {
	now := at(t, "2026-01-01T12:00:00Z")
	for _, tc := range []struct {
		text  string
		since time.Time
		want  int
	}{
		{"* * * * *", now.Add(-time.Minute), 1}, {"* * * * *", now.Add(-100 * time.Minute), 100}, {"* * * * *", now.AddDate(-9, 0, 0), 101},
		{"0 12 * * *", now.AddDate(0, 0, -3), 3}, {"0 12 1 1 *", now.AddDate(-400, 0, 0), 101}, {"@every 10m", now.Add(-time.Hour), 6}, {"@every 10m", now.AddDate(-9, 0, 0), 101},
	} {
		if got := parsed(t, tc.text, "UTC").missed(tc.since, now, 101); got != tc.want {
			t.Errorf("%s since %v: %d, want %d", tc.text, tc.since, got, tc.want)
		}
	}
}

// BenchmarkDueAfterAges is what a look costs when nobody looked for a hundred years.
func BenchmarkDueAfterAges(b *testing.B) {
	s, _ := parse("0 0 30 2 *", ptr.To("Europe/Berlin"))
	now := time.Date(2026, 5, 5, 5, 5, 5, 0, time.UTC)
	for b.Loop() {
		s.due(now.AddDate(-100, 0, 0), now)
	}
}
