package job

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// indexes is a set of completion indexes: spans in growing order, none touching the next.
type indexes []span

type span struct{ first, last int }

// parseIndexes reads a set as a status or a policy tells it, "1,3-5,7". What is not below limit is left out, as are parts that
// nobody could have written: the API server has checked the text against the number of completions of its time.
func parseIndexes(text string, limit int) indexes {
	var x indexes
	for part := range strings.SplitSeq(text, ",") {
		from, to, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		if last = min(last, limit-1); first <= last {
			x = x.add(span{first, last})
		}
	}
	return x
}

// indexesOf makes a set of a list, in any order.
func indexesOf(list []int) indexes {
	list = slices.Clone(list)
	slices.Sort(list)
	var x indexes
	for _, i := range list {
		x = x.add(span{i, i})
	}
	return x
}

// add appends a span that begins at or after the last one's first index.
func (x indexes) add(s span) indexes {
	if n := len(x); n > 0 && x[n-1].last+1 >= s.first {
		x[n-1].last = max(x[n-1].last, s.last)
		return x
	}
	return append(x, s)
}

// union is what is in either; neither is changed.
func (x indexes) union(y indexes) indexes {
	var u indexes
	for len(x) > 0 || len(y) > 0 {
		if len(y) == 0 || len(x) > 0 && x[0].first <= y[0].first {
			u, x = u.add(x[0]), x[1:]
		} else {
			u, y = u.add(y[0]), y[1:]
		}
	}
	return u
}

// common counts what is in both.
func (x indexes) common(y indexes) (n int) {
	for len(x) > 0 && len(y) > 0 {
		n += max(0, min(x[0].last, y[0].last)-max(x[0].first, y[0].first)+1)
		if x[0].last < y[0].last {
			x = x[1:]
		} else {
			y = y[1:]
		}
	}
	return n
}

func (x indexes) has(i int) bool {
	at, _ := slices.BinarySearchFunc(x, i, func(s span, i int) int { return s.last - i })
	return at < len(x) && x[at].first <= i
}

func (x indexes) count() (n int) {
	for _, s := range x {
		n += s.last - s.first + 1
	}
	return n
}

// missing are the indexes below limit that are not in the set, in order.
func (x indexes) missing(limit int) iter.Seq[int] {
	return func(yield func(int) bool) {
		next := 0
		for _, s := range append(x[:len(x):len(x)], span{limit, limit}) {
			for ; next < min(s.first, limit); next++ {
				if !yield(next) {
					return
				}
			}
			next = max(next, s.last+1)
		}
	}
}

// String is the set as a status tells it: two neighbours with a comma between, three and more with a hyphen.
func (x indexes) String() string {
	var b strings.Builder
	for i, s := range x {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(s.first))
		switch s.last - s.first {
		case 0:
			continue
		case 1:
			b.WriteByte(',')
		default:
			b.WriteByte('-')
		}
		b.WriteString(strconv.Itoa(s.last))
	}
	return b.String()
}

// noIndex is the index of a pod that has none.
const noIndex = -1

func indexOf(p *corev1.Pod) int { return annotated(p, batchv1.JobCompletionIndexAnnotation, noIndex) }

// annotated is the number in an annotation, or other where there is none.
func annotated(p *corev1.Pod, key string, other int) int {
	n, err := strconv.ParseInt(p.Annotations[key], 10, 32)
	if err != nil || n < 0 {
		return other
	}
	return int(n)
}
