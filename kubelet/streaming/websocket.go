package streaming

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

// serveV5 serves the protocol that kubectl speaks first, v5.channel.k8s.io: five channels in one WebSocket, each of which can be closed on its own.
// The module cri-streaming knows the older ones only, and leaves this one to API servers that translate it.
func serveV5(w http.ResponseWriter, r *http.Request, o *remotecommand.Options, idle time.Duration, run func(ctx context.Context, in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) error) {
	channels := []wsstream.ChannelType{wsstream.IgnoreChannel, wsstream.IgnoreChannel, wsstream.IgnoreChannel, wsstream.WriteChannel, wsstream.ReadChannel}
	if o.Stdin {
		channels[remotecommand.StreamStdIn] = wsstream.ReadChannel
	}
	if o.Stdout {
		channels[remotecommand.StreamStdOut] = wsstream.WriteChannel
	}
	if o.Stderr {
		channels[remotecommand.StreamStdErr] = wsstream.WriteChannel
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels}})
	conn.SetIdleTimeout(idle)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		return // Open has answered
	}
	defer conn.Close()
	ctx := r.Context()
	var in io.Reader
	var out, errs io.WriteCloser
	if o.Stdin {
		in = streams[remotecommand.StreamStdIn]
	}
	if o.Stdout {
		out = streams[remotecommand.StreamStdOut]
	}
	if o.Stderr {
		errs = streams[remotecommand.StreamStdErr]
	}
	var resize chan remotecommand.TerminalSize
	if o.TTY {
		resize = make(chan remotecommand.TerminalSize)
		go readSizes(ctx, streams[remotecommand.StreamResize], resize)
	}
	status, err := json.Marshal(outcome(run(ctx, in, out, errs, resize)))
	if err != nil {
		return
	}
	streams[remotecommand.StreamErr].Write(status) // a client that has gone has no use for it
}

// readSizes reads terminal sizes, a JSON object each, until there are no more; the stream ends with the connection.
func readSizes(ctx context.Context, from io.Reader, to chan<- remotecommand.TerminalSize) {
	defer close(to)
	for d := json.NewDecoder(from); ; {
		var s remotecommand.TerminalSize
		if d.Decode(&s) != nil {
			return
		}
		select {
		case to <- s:
		case <-ctx.Done():
			return
		}
	}
}

// outcome is what the error channel says at the end.
func outcome(err error) metav1.Status {
	var exit utilexec.CodeExitError
	switch {
	case err == nil:
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &exit):
		return metav1.Status{Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason, Message: err.Error(),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(exit.Code)}}}}
	default:
		return metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("Internal error occurred: %v", err)}
	}
}
