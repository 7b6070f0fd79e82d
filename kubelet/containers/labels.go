package containers

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The labels of containerd's records: the node's whole memory. What a caller gave stands under ownPrefix.
const (
	labelPrefix = "pilothouse.dev/"
	ownPrefix   = "own.pilothouse.dev/"

	labelKind      = labelPrefix + "kind" // sandbox or container
	labelPodUID    = labelPrefix + "pod-uid"
	labelNamespace = labelPrefix + "pod-namespace"
	labelPodName   = labelPrefix + "pod-name"
	labelAttempt   = labelPrefix + "attempt"

	labelHostname = labelPrefix + "hostname"
	labelHostNS   = labelPrefix + "host-namespaces" // net,ipc,pid
	labelIPs      = labelPrefix + "ips"
	labelHandler  = labelPrefix + "handler"
	labelIDs      = labelPrefix + "first-id"
	labelPause    = labelPrefix + "pause" // the ID of the sandbox's process, a space, and its number

	labelSandbox    = labelPrefix + "sandbox"
	labelName       = labelPrefix + "name"
	labelImage      = labelPrefix + "image"
	labelImageID    = labelPrefix + "image-id"
	labelImageRef   = labelPrefix + "image-ref"
	labelLogPath    = labelPrefix + "log-path"
	labelCgroup     = labelPrefix + "cgroup"
	labelStdio      = labelPrefix + "stdio" // tty,stdin,once
	labelStopSignal = labelPrefix + "stop-signal"
	labelUser       = labelPrefix + "user" // identityOf.text
	labelStarted    = labelPrefix + "started-at"
	labelFinished   = labelPrefix + "finished-at"
	labelExitCode   = labelPrefix + "exit-code"
	labelReason     = labelPrefix + "reason"
	labelMessage    = labelPrefix + "message"

	kindSandbox   = "sandbox"
	kindContainer = "container"
	kindPause     = "pause"

	maxMessage = 2048 // a label holds 4096 bytes, key included
)

func filterKind(kind string) string { return fmt.Sprintf("labels.%q==%s", labelKind, kind) }

func filterLabel(kind, label, value string) string {
	return fmt.Sprintf("%s,labels.%q==%q", filterKind(kind), label, value)
}

func sandboxLabels(s Sandbox) map[string]string {
	var ips []string
	for _, ip := range s.IPs {
		ips = append(ips, ip.String())
	}
	labels := withOwn(s.Labels, map[string]string{
		labelKind:      kindSandbox,
		labelPodUID:    s.PodUID,
		labelNamespace: s.PodNamespace,
		labelPodName:   s.PodName,
		labelAttempt:   strconv.Itoa(s.Attempt),
		labelHostname:  s.Hostname,
		labelHostNS:    words("net", s.HostNetwork, "ipc", s.HostIPC, "pid", s.HostPID),
		labelIPs:       strings.Join(ips, ","),
	})
	if s.Handler != "" {
		labels[labelHandler] = s.Handler
	}
	if s.FirstID != 0 {
		labels[labelIDs] = strconv.FormatUint(uint64(s.FirstID), 10)
	}
	if s.SharedPID {
		labels[labelPause] = fmt.Sprintf("%s %d", s.PauseID, s.PausePID)
	}
	return labels
}

// sandboxFrom is the other way of sandboxLabels; paths and readiness are not in labels.
func sandboxFrom(id string, labels map[string]string, created time.Time) Sandbox {
	s := Sandbox{
		ID:           id,
		PodUID:       labels[labelPodUID],
		PodNamespace: labels[labelNamespace],
		PodName:      labels[labelPodName],
		Attempt:      number(labels[labelAttempt]),
		Hostname:     labels[labelHostname],
		HostNetwork:  hasWord(labels[labelHostNS], "net"),
		HostIPC:      hasWord(labels[labelHostNS], "ipc"),
		HostPID:      hasWord(labels[labelHostNS], "pid"),
		Handler:      labels[labelHandler],
		Created:      created,
		Labels:       own(labels),
	}
	if id, pid, ok := strings.Cut(labels[labelPause], " "); ok {
		s.SharedPID, s.PauseID, s.PausePID = true, id, number(pid)
	}
	if id, err := small(labels[labelIDs]); err == nil {
		s.FirstID = id
	}
	for part := range strings.SplitSeq(labels[labelIPs], ",") {
		if ip, err := netip.ParseAddr(part); err == nil {
			s.IPs = append(s.IPs, ip)
		}
	}
	return s
}

func containerLabels(c Container, stdinOnce bool, stopSignal, user string) map[string]string {
	return withOwn(c.Labels, map[string]string{
		labelKind:       kindContainer,
		labelPodUID:     c.PodUID,
		labelSandbox:    c.SandboxID,
		labelName:       c.Name,
		labelAttempt:    strconv.Itoa(c.Attempt),
		labelImage:      c.Image,
		labelImageID:    c.ImageID,
		labelImageRef:   c.ImageRef,
		labelLogPath:    c.LogPath,
		labelCgroup:     c.CgroupPath,
		labelStdio:      words("tty", c.TTY, "stdin", c.Stdin, "once", stdinOnce),
		labelStopSignal: stopSignal,
		labelUser:       user,
	})
}

// containerFrom is the other way of containerLabels. A container that started and has no recorded end is Running here; whether its
// task still exists is for the caller to ask.
func containerFrom(id string, labels map[string]string, created time.Time) Container {
	c := Container{
		ID:         id,
		SandboxID:  labels[labelSandbox],
		PodUID:     labels[labelPodUID],
		Name:       labels[labelName],
		Attempt:    number(labels[labelAttempt]),
		Image:      labels[labelImage],
		ImageID:    labels[labelImageID],
		ImageRef:   labels[labelImageRef],
		LogPath:    labels[labelLogPath],
		CgroupPath: labels[labelCgroup],
		TTY:        hasWord(labels[labelStdio], "tty"),
		Stdin:      hasWord(labels[labelStdio], "stdin"),
		State:      Created,
		Created:    created,
		Started:    instant(labels[labelStarted]),
		Finished:   instant(labels[labelFinished]),
		ExitCode:   number(labels[labelExitCode]),
		Reason:     labels[labelReason],
		Message:    labels[labelMessage],
		User:       identityFrom(labels[labelUser]),
		StopSignal: signalName(stopSignal(labels[labelStopSignal])),
		Labels:     own(labels),
	}
	if id, err := small(labels[labelIDs]); err == nil {
		c.firstID = id
	}
	switch {
	case !c.Finished.IsZero():
		c.State = Exited
	case !c.Started.IsZero():
		c.State = Running
	}
	return c
}

// exitLabels record how a container ended.
func exitLabels(at time.Time, code int, reason, message string) map[string]string {
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "")
	}
	return map[string]string{
		labelFinished: at.UTC().Format(time.RFC3339Nano),
		labelExitCode: strconv.Itoa(code),
		labelReason:   reason,
		labelMessage:  message,
	}
}

func withOwn(own, labels map[string]string) map[string]string {
	for k, v := range own {
		labels[ownPrefix+k] = v
	}
	return labels
}

func own(labels map[string]string) map[string]string {
	found := make(map[string]string)
	for k, v := range labels {
		if name, ok := strings.CutPrefix(k, ownPrefix); ok {
			found[name] = v
		}
	}
	return found
}

// words joins the names whose flag is set: words("a", true, "b", false) is "a".
func words(pairs ...any) string {
	var set []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1].(bool) {
			set = append(set, pairs[i].(string))
		}
	}
	return strings.Join(set, ",")
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// number and instant read what only this file writes; a label spoiled by hand reads as zero.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
