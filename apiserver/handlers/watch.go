package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"pilothouse.dev/apiserver/codec"
	"pilothouse.dev/apiserver/registry"
	"pilothouse.dev/apiserver/request"
	"pilothouse.dev/apiserver/storage"
)

// Watches that name no timeout end after a time between these, so that they spread over servers again.
const (
	minWatch = 30 * time.Minute
	maxWatch = time.Hour
)

// watch streams changes until the client, the timeout or the server ends it. Everything that is to be said at one moment
// goes out in one write. Its frame stays on the stack of every running watch: what only the start needs is in asked.
func (h *Handlers) watch(w http.ResponseWriter, r *http.Request, res *registry.Resource, info *request.Info) error {
	v, wo, limit, err := h.asked(r, res, info)
	if err != nil {
		return err
	}
	wo.Begun = request.Begun(r.Context())
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	defer context.AfterFunc(h.draining, cancel)()
	watcher, err := res.Store.Watch(ctx, *wo)
	if errors.Is(err, storage.ErrCompacted) {
		// Said inside the stream, as clients expect of a watch that cannot start where asked.
		return v.stream(ctx, w, failed{err}, h.turns.join())
	}
	if err != nil {
		return storeError(err, res, "")
	}
	defer watcher.Close()
	gauge := h.watchers.WithLabelValues(res.GVK.Group, res.GVK.Version, res.Plural)
	gauge.Inc()
	defer gauge.Dec()
	return v.stream(ctx, w, watcher, h.turns.join())
}

// asked reads what a watch is to be.
func (h *Handlers) asked(r *http.Request, res *registry.Resource, info *request.Info) (*view, *storage.WatchOptions, time.Duration, error) {
	v, err := anyView(r, res, true)
	if err != nil {
		return nil, nil, 0, err
	}
	if v.a.Media == codec.YAML {
		return nil, nil, 0, notAcceptable(codec.StreamMedia...)
	}
	if v.a.As == codec.PartialList {
		v.a.As = codec.Partial
	}
	o, sel, err := listOptions(r, res, info)
	if err != nil {
		return nil, nil, 0, err
	}
	wo, err := watchOptions(o, sel)
	if err != nil {
		return nil, nil, 0, err
	}
	limit := minWatch + rand.N(maxWatch-minWatch)
	if o.TimeoutSeconds != nil && *o.TimeoutSeconds > 0 {
		limit = time.Duration(*o.TimeoutSeconds) * time.Second
	}
	return v, &wo, limit, nil
}

// failed is a watcher that only has an error to tell.
type failed struct{ err error }

func (f failed) Next(context.Context) ([]storage.Event, error) { return nil, f.err }

func watchOptions(o *internalversion.ListOptions, sel storage.Selector) (storage.WatchOptions, error) {
	wo := storage.WatchOptions{Selector: sel, Bookmarks: o.AllowWatchBookmarks}
	asked := o.SendInitialEvents != nil && *o.SendInitialEvents
	refused := o.SendInitialEvents != nil && !*o.SendInitialEvents
	switch o.ResourceVersion {
	case "":
		wo.Initial = !refused
	case "0":
		wo.Initial = !refused
		wo.Read = storage.Cached
	default:
		n, err := revision(o.ResourceVersion)
		if err != nil {
			return wo, apierrors.NewInvalid(schema.GroupKind{Kind: "ListOptions", Group: "meta.k8s.io"}, "", field.ErrorList{err})
		}
		wo.Initial = asked
		wo.Read = storage.Read{Match: storage.NotOlderThan, Revision: n}
	}
	return wo, nil
}

type source interface {
	Next(context.Context) ([]storage.Event, error)
}

// stream writes events until the watch ends; how it ended is said in the stream, when it needs saying.
func (v *view) stream(ctx context.Context, w http.ResponseWriter, from source, turn *turn) error {
	w.Header().Set("Content-Type", v.a.ContentType(true))
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	if err := flush.Flush(); err != nil {
		return nil // the client is gone
	}
	for first := true; ; first = false {
		events, err := from.Next(ctx)
		if ctx.Err() != nil || turn.take(ctx) != nil {
			return nil
		}
		if err == nil {
			err = v.sendAll(w, events, first)
		}
		if err != nil && !errors.Is(err, errGone) {
			err = errors.Join(errGone, v.sendError(w, err)) // the last thing said
		}
		if ferr := flush.Flush(); err == nil {
			err = ferr
		}
		if turn.give(); err != nil {
			return nil
		}
	}
}

// errGone means that the client does not take what we write any more.
var errGone = errors.New("the client is gone")

// sendAll writes events, all in one write unless they are long. The buffer lives no longer than that: an idle watch has none.
func (v *view) sendAll(w http.ResponseWriter, events []storage.Event, first bool) error {
	buf := newBuffer()
	defer release(buf)
	for i := range events {
		if err := v.send(buf, &events[i], first && i == 0); err != nil {
			if _, werr := w.Write(buf.Bytes()); werr != nil {
				return errGone
			}
			return err
		}
		if buf.Len() >= streamBuffer || i == len(events)-1 {
			if _, err := w.Write(buf.Bytes()); err != nil {
				return errGone
			}
			buf.Reset()
		}
	}
	return nil
}

// send appends one event.
func (v *view) send(out *bytes.Buffer, ev *storage.Event, first bool) error {
	if ev.Type == storage.Bookmark {
		return v.sendBookmark(out, ev)
	}
	if v.a.Media == codec.Protobuf {
		msg, err := v.message(ev.Entry)
		if err != nil {
			return err
		}
		out.Write(codec.AppendWatchFrame(out.AvailableBuffer(), string(ev.Type), v.kind(), msg, ev.Entry.Revision))
		return nil
	}
	var b []byte
	var err error
	switch {
	case v.a.As == codec.Table:
		b, err = v.row(ev.Entry, first)
	case v.a.Media == codec.CBOR:
		b, err = v.cbor(ev.Entry)
	default:
		b, err = v.json(ev.Entry)
	}
	if err != nil {
		return err
	}
	return v.writeEvent(out, string(ev.Type), b)
}

// writeEvent appends an event whose object is at hand in the view's media, JSON or CBOR.
func (v *view) writeEvent(out *bytes.Buffer, event string, object []byte) error {
	if v.a.Media != codec.CBOR {
		writeEvent(out, event, object)
		return nil
	}
	b, err := codec.CBOREvent(event, object)
	out.Write(b)
	return err
}

func writeEvent(out *bytes.Buffer, event string, object []byte) {
	out.WriteString(`{"type":"`)
	out.WriteString(event)
	out.WriteString(`","object":`)
	out.Write(object)
	out.WriteString("}\n")
}

func (v *view) row(e *storage.Entry, columns bool) ([]byte, error) {
	obj, err := v.served(e)
	if err != nil {
		return nil, err
	}
	t, err := v.tableOf([]registry.Object{obj}, metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()}, columns)
	if err != nil {
		return nil, err
	}
	return json.Marshal(t)
}

// sendBookmark writes an object of the kind that holds nothing but a revision.
func (v *view) sendBookmark(out *bytes.Buffer, ev *storage.Event) error {
	obj := v.res.New()
	obj.SetResourceVersion(strconv.FormatInt(ev.Revision, 10))
	if ev.InitialEnd {
		obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	if v.a.Media == codec.Protobuf {
		var msg []byte
		var err error
		if v.a.As == codec.Partial {
			msg, err = codec.Marshal(partialOf(obj))
		} else {
			msg, err = codec.Marshal(obj)
		}
		if err != nil {
			return err
		}
		out.Write(codec.AppendWatchFrame(nil, string(ev.Type), v.kind(), msg, ev.Revision))
		return nil
	}
	var b []byte
	var err error
	switch {
	case v.a.As == codec.Table:
		t := &metav1.Table{ListMeta: metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()}}
		t.SetGroupVersionKind(tableKind)
		if ev.InitialEnd {
			// Clients find the annotation on the row's object.
			v := *v
			v.include = metav1.IncludeMetadata
			if t, err = v.tableOf([]registry.Object{obj}, t.ListMeta, false); err != nil {
				return err
			}
		}
		b, err = json.Marshal(t)
	case v.a.Media == codec.CBOR:
		b, err = codec.CBORBody(v.shape(obj))
	default:
		b, err = v.objectJSON(obj)
	}
	if err != nil {
		return err
	}
	return v.writeEvent(out, string(ev.Type), b)
}

// sendError tells in the stream why the watch ends.
func (v *view) sendError(w http.ResponseWriter, cause error) error {
	status := StatusOf(storeError(cause, v.res, ""))
	if errors.Is(cause, storage.ErrCompacted) {
		status.Message = "too old resource version: " + cause.Error()
	}
	var out bytes.Buffer
	b, err := codec.Encode(&status, statusKind, codec.Accepted{Media: v.a.Media})
	if err != nil {
		return err
	}
	switch v.a.Media {
	case codec.Protobuf:
		out.Write(codec.WatchFrame("ERROR", b))
	case codec.JSON:
		b = bytes.TrimSuffix(b, newline)
		fallthrough
	default:
		if err := v.writeEvent(&out, "ERROR", b); err != nil {
			return err
		}
	}
	_, err = w.Write(out.Bytes())
	return err
}
