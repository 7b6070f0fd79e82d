package shutdown

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// The interface of systemd-logind (https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.login1.html).
const (
	loginName    = "org.freedesktop.login1"
	loginPath    = dbus.ObjectPath("/org/freedesktop/login1")
	loginManager = loginName + ".Manager"
	prepare      = "PrepareForShutdown"
	property     = "org.freedesktop.DBus.Properties.Get"
	owner        = "org.freedesktop.DBus.GetNameOwner"

	systemdName    = "org.freedesktop.systemd1"
	systemdPath    = dbus.ObjectPath("/org/freedesktop/systemd1")
	systemdManager = systemdName + ".Manager"
)

// patience is for one answer.
const patience = 10 * time.Second

// dropIn is the file that tells logind to allow longer delays.
const dropIn = "/etc/systemd/logind.conf.d/99-kubelet.conf"

// Logind is systemd's logind, spoken to over D-Bus.
type Logind struct {
	bus    *dbus.Conn
	config string
}

// DialLogind connects to logind on the bus at the address, empty: the system's. It fails where no bus is.
func DialLogind(address string) (*Logind, error) {
	var bus *dbus.Conn
	var err error
	if address == "" {
		bus, err = dbus.ConnectSystemBus()
	} else {
		bus, err = dbus.Connect(address)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to D-Bus: %w", err)
	}
	return &Logind{bus: bus, config: dropIn}, nil
}

// Close ends the connection.
func (l *Logind) Close() error { return l.bus.Close() }

func (l *Logind) login() dbus.BusObject { return l.bus.Object(loginName, loginPath) }

// call asks, and waits for the answer no longer than patience: the bus itself would wait for ever for one who hangs.
func call(to dbus.BusObject, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return to.CallWithContext(ctx, method, 0, args...)
}

// get reads a property of logind.
func (l *Logind) get(name string) (dbus.Variant, error) {
	var v dbus.Variant
	err := call(l.login(), property, loginManager, name).Store(&v)
	return v, err
}

// Delay is logind's InhibitDelayMaxUSec.
func (l *Logind) Delay() (time.Duration, error) {
	v, err := l.get("InhibitDelayMaxUSec")
	if err != nil {
		return 0, err
	}
	usec, ok := v.Value().(uint64)
	if !ok {
		return 0, fmt.Errorf("InhibitDelayMaxUSec is %s", v)
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// Preparing is logind's PreparingForShutdown.
func (l *Logind) Preparing() (bool, error) {
	v, err := l.get("PreparingForShutdown")
	if err != nil {
		return false, err
	}
	is, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("PreparingForShutdown is %s", v)
	}
	return is, nil
}

// Extend writes a file for logind and has it read its configuration again.
func (l *Logind) Extend(d time.Duration) error {
	if err := os.MkdirAll(filepath.Dir(l.config), 0o755); err != nil {
		return fmt.Errorf("telling logind to wait: %w", err)
	}
	text := fmt.Sprintf("# Written by kubelet for its pods, see --shutdown-grace-period.\n[Login]\nInhibitDelayMaxSec=%.0f\n", d.Seconds())
	if err := os.WriteFile(l.config, []byte(text), 0o644); err != nil {
		return fmt.Errorf("telling logind to wait: %w", err)
	}
	if err := call(l.bus.Object(systemdName, systemdPath), systemdManager+".KillUnit", "systemd-logind.service", "all", int32(unix.SIGHUP)).Err; err != nil {
		return fmt.Errorf("having logind read its configuration: %w", err)
	}
	for range 20 { // it reads in its own time
		have, err := l.Delay()
		if err != nil {
			return err
		}
		if have >= d {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("logind does not take the longer delay: another file of its configuration may say otherwise")
}

// Inhibit takes a lock of the kind «delay»; closing its file gives it back.
func (l *Logind) Inhibit() (func() error, error) {
	var fd dbus.UnixFD
	if err := call(l.login(), loginManager+".Inhibit", "shutdown", "kubelet", "Pods of this node need time to end", "delay").Store(&fd); err != nil {
		return nil, fmt.Errorf("taking the lock: %w", err)
	}
	return func() error { return unix.Close(int(fd)) }, nil
}

// Announcements are logind's signals PrepareForShutdown. The bus lets everybody send signals of that name, so those of others are not heard.
func (l *Logind) Announcements() (<-chan bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := l.bus.AddMatchSignalContext(ctx, dbus.WithMatchSender(loginName), dbus.WithMatchInterface(loginManager), dbus.WithMatchMember(prepare), dbus.WithMatchObjectPath(loginPath))
	if err != nil {
		return nil, err
	}
	signals, out := make(chan *dbus.Signal, 4), make(chan bool, 4)
	l.bus.Signal(signals)
	go func() { // ends with the connection, which closes signals
		defer close(out)
		for s := range signals {
			if s.Name != loginManager+"."+prepare || len(s.Body) != 1 || !l.from(s.Sender) {
				continue
			}
			if begins, ok := s.Body[0].(bool); ok {
				select {
				case out <- begins:
				case <-l.bus.Context().Done():
					return
				}
			}
		}
	}()
	return out, nil
}

// from says whether a sender is logind: one to whom a signal is addressed gets it whatever was asked for.
func (l *Logind) from(sender string) bool {
	var name string
	return call(l.bus.BusObject(), owner, loginName).Store(&name) == nil && name == sender
}
