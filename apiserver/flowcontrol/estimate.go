package flowcontrol

import (
	"math"
	"net/url"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"pilothouse.dev/apiserver/request"
)

// How seats follow from work (KEP-1040, «width of requests»).
const (
	mostSeats      = 10
	mostOfLevel    = 0.15 // of a level's nominal seats, for one request
	objectsPerSeat = 100
	watchesPerSeat = 10
	perEvents      = 5 * time.Millisecond // of a seat, for telling watchesPerSeat watches
)

// Work is what a request is taken to cost.
type Work struct {
	Seats int           // while it runs; at least one
	Final int           // after it, for Extra, while watches are told of it
	Extra time.Duration // 0 when Final is
}

// Sizes tells how many objects a kind has in a namespace (all, when that is empty), counting no further than most; negative when
// that is not known. It costs next to nothing.
type Sizes interface {
	Size(of schema.GroupVersionResource, namespace string, most int) int
}

// estimate says what a request costs, in a level where one may have at most so many seats.
func (g *Gate) estimate(i *request.Info, query string, most int) Work {
	one := Work{Seats: 1}
	if !i.IsResource {
		return one
	}
	switch i.Verb {
	case "list", "watch", "deletecollection":
		if most > 1 && i.Name == "" && i.Subresource == "" {
			return Work{Seats: g.width(i, query, most)}
		}
	case "create", "update", "patch", "delete":
		if n := g.watches.of(i); n >= watchesPerSeat {
			seats := float64(n) / watchesPerSeat
			w := Work{Seats: 1, Final: min(most, int(math.Ceil(seats)))}
			w.Extra = time.Duration(seats / float64(w.Final) * float64(perEvents))
			return w
		}
	}
	return one
}

// width is the seats of a list, or of a watch that begins with one: by the objects that it goes through.
func (g *Gate) width(i *request.Info, query string, most int) int {
	objects := g.sizes.Size(i.GVR(), i.Namespace, most*objectsPerSeat)
	if objects <= objectsPerSeat {
		return 1 // also when nothing is known: of kinds that are not served, of those that another server has
	}
	if query != "" {
		q, err := url.ParseQuery(query)
		if err != nil {
			return 1 // it will be refused
		}
		if i.Verb == "watch" && !tellsState(q) {
			return 1
		}
		// A page is cut out of memory: what is beyond its end costs nothing, unless a selector has to look for what it shows.
		limit, err := strconv.Atoi(q.Get("limit"))
		if err == nil && limit > 0 && q.Get("labelSelector") == "" && q.Get("fieldSelector") == "" {
			objects = min(objects, limit)
		}
	}
	return min(most, (objects+objectsPerSeat-1)/objectsPerSeat)
}

// tellsState says whether a watch begins with the objects that there are.
func tellsState(q url.Values) bool {
	switch asked := q.Get("sendInitialEvents"); {
	case asked != "":
		return asked != "false" && asked != "0"
	default:
		version := q.Get("resourceVersion")
		return version == "" || version == "0"
	}
}

// watches counts running watches by what they are told of.
type watches struct {
	mu    sync.RWMutex
	count map[interest]int // guarded by mu
}

// interest is what a watch is told of: empty parts stand for everything.
type interest struct{ group, resource, namespace, name string }

// add counts a watch until the returned function is called.
func (w *watches) add(i interest) func() {
	w.by(i, 1)
	return func() { w.by(i, -1) }
}

func (w *watches) by(i interest, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count[i] += n; w.count[i] == 0 {
		delete(w.count, i)
	}
}

// of is how many watches a change would be told to.
func (w *watches) of(i *request.Info) int {
	at := interest{group: i.Group, resource: i.Resource}
	w.mu.RLock()
	defer w.mu.RUnlock()
	n := w.count[at]
	if i.Namespace != "" {
		at.namespace = i.Namespace
		n += w.count[at]
	}
	if i.Name != "" {
		at.name = i.Name
		n += w.count[at]
	}
	return n
}
