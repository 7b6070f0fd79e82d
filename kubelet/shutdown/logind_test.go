package shutdown

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
	"golang.org/x/sys/unix"
)

// bus starts a D-Bus daemon of the test's own and returns its address.
func bus(t *testing.T) string {
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("no dbus-daemon on this machine")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:dir=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file="+config, "--nofork", "--print-address=1")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// login plays logind and systemd on that bus: it hands out one end of a pipe as the lock, and reads its configuration at SIGHUP.
type login struct {
	conn *dbus.Conn
	file string
	prop *prop.Properties

	mu    sync.Mutex
	locks []*os.File // our ends
}

func (l *login) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	if what != "shutdown" || mode != "delay" || who == "" || why == "" {
		return 0, dbus.MakeFailedError(fmt.Errorf("%s %s %s %s", what, who, why, mode))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	fd, err := unix.Dup(int(w.Fd()))
	w.Close()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	l.mu.Lock()
	l.locks = append(l.locks, r)
	l.mu.Unlock()
	time.AfterFunc(time.Second, func() { unix.Close(fd) }) // ours, once the answer is sent
	return dbus.UnixFD(fd), nil
}

func (l *login) KillUnit(unit, who string, signal int32) *dbus.Error {
	data, err := os.ReadFile(l.file)
	if err != nil || unit != "systemd-logind.service" || signal != int32(unix.SIGHUP) {
		return dbus.MakeFailedError(fmt.Errorf("%s %d: %v", unit, signal, err))
	}
	var seconds uint64
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "InhibitDelayMaxSec="); ok {
			if _, err := fmt.Sscan(text, &seconds); err != nil {
				return dbus.MakeFailedError(err)
			}
		}
	}
	l.prop.SetMust(loginManager, "InhibitDelayMaxUSec", seconds*1_000_000)
	return nil
}

func playLogin(t *testing.T, address, file string) *login {
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	l := &login{conn: conn, file: file}
	l.prop, err = prop.Export(conn, loginPath, prop.Map{loginManager: {"InhibitDelayMaxUSec": {Value: uint64(5_000_000), Emit: prop.EmitFalse},
		"PreparingForShutdown": {Value: true, Emit: prop.EmitFalse}}})
	if err == nil {
		err = conn.Export(l, loginPath, loginManager)
	}
	if err == nil {
		err = conn.Export(l, systemdPath, systemdManager)
	}
	for _, name := range []string{loginName, systemdName} {
		if err == nil {
			_, err = conn.RequestName(name, dbus.NameFlagDoNotQueue)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The real protocol on a real bus: the delay is read and extended, a lock taken and given back, a shutdown announced and called off, the bus lost.
func TestLogind(t *testing.T) {
	address := bus(t)
	file := filepath.Join(t.TempDir(), "logind.conf.d", "99-kubelet.conf")
	played := playLogin(t, address, file)
	l, err := DialLogind(address)
	if err != nil {
		t.Fatal(err)
	}
	l.config = file
	if d, err := l.Delay(); err != nil || d != 5*time.Second {
		t.Fatalf("the delay is %s, %v", d, err)
	}
	if err := l.Extend(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	if d, err := l.Delay(); err != nil || d != 30*time.Second {
		t.Errorf("the longer delay is %s, %v", d, err)
	}
	release, err := l.Inhibit()
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	played.mu.Lock()
	ours := played.locks[0]
	played.mu.Unlock()
	go func() { // the lock is given back when nobody holds the other end
		_, err := ours.Read(make([]byte, 1))
		gone <- err
	}()
	news, err := l.Announcements()
	if err != nil {
		t.Fatal(err)
	}
	if under, err := l.Preparing(); err != nil || !under {
		t.Errorf("a shutdown under way: %t, %v", under, err)
	}
	stranger, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	forge := func(to string) { // anybody may send such a signal, to all or to us alone
		t.Helper()
		m := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldPath: dbus.MakeVariant(loginPath),
			dbus.FieldInterface: dbus.MakeVariant(loginManager), dbus.FieldMember: dbus.MakeVariant(prepare), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(true))},
			Body: []any{true}}
		if to != "" {
			m.Headers[dbus.FieldDestination] = dbus.MakeVariant(to)
		}
		if sent := stranger.Send(m, nil); sent != nil && sent.Err != nil {
			t.Fatal(sent.Err)
		}
		// The bus has it before what comes next.
		if err := stranger.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
			t.Fatal(err)
		}
	}
	for _, begins := range []bool{false, true, false} {
		forge("")
		forge(l.bus.Names()[0])
		if err := played.conn.Emit(loginPath, loginManager+".PrepareForSleep", !begins); err != nil {
			t.Fatal(err)
		}
		if err := played.conn.Emit(loginPath, loginManager+"."+prepare, begins); err != nil {
			t.Fatal(err)
		}
		select {
		case got, ok := <-news:
			if !ok || got != begins {
				t.Errorf("heard %t, %t; want %t", got, ok, begins)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("nothing was heard")
		}
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Fatal("the lock is still held")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case _, ok := <-news:
		if ok {
			t.Error("heard something after the end")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the announcements do not end with the connection")
	}
}

func TestNoBus(t *testing.T) {
	if _, err := DialLogind("unix:path=" + filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("connected to a bus that is not there")
	}
}
