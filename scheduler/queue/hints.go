package queue

import "pilothouse.dev/scheduler/framework"

// helpsLocked says whether an event may make a pod schedulable: one of the plugins that refused it thinks so. A pod that was
// refused by nobody in particular (there were no nodes, or the trip failed) is helped by anything.
func (q *Queue) helpsLocked(it *Item, e framework.Event) bool {
	if len(it.rejectors) == 0 {
		return true
	}
	for _, plugin := range it.rejectors {
		if q.rules.Helps(plugin, it.Pod, e) {
			return true
		}
	}
	return false
}

// journal keeps the events since the oldest pod in flight was popped, numbered from 0. The zero value is empty.
type journal struct {
	first  uint64 // number of events[0]
	events []framework.Event
}

// maxJournal bounds the journal: should a trip take longer than so many events, it is taken to have been helped.
const maxJournal = 8192

func (j *journal) next() uint64 { return j.first + uint64(len(j.events)) }

func (j *journal) add(e framework.Event) {
	if len(j.events) >= maxJournal {
		j.forget(j.first + maxJournal/2)
	}
	j.events = append(j.events, e)
}

// since says whether one of the events from this number on satisfies helps, or may have: it was already forgotten.
func (j *journal) since(number uint64, helps func(framework.Event) bool) bool {
	if number < j.first {
		return true
	}
	for _, e := range j.events[min(number-j.first, uint64(len(j.events))):] {
		if helps(e) {
			return true
		}
	}
	return false
}

// forget drops the events before this number.
func (j *journal) forget(before uint64) {
	if before <= j.first {
		return
	}
	n := min(before-j.first, uint64(len(j.events)))
	rest := copy(j.events, j.events[n:])
	clear(j.events[rest:])
	j.events = j.events[:rest]
	j.first += n
}
