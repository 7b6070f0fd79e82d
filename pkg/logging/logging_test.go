package logging

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"k8s.io/klog/v2"
)

func TestLibrariesAreLedIn(t *testing.T) {
	core, seen := observer.New(zapcore.DebugLevel)
	lead(zap.New(core))
	defer klog.ClearLogger()
	klog.InfoS("quiet", "k", 1)
	klog.ErrorS(nil, "loud")
	all := seen.All()
	if len(all) != 2 || all[0].Level != zapcore.DebugLevel || all[0].Message != "quiet" || all[1].Level != zapcore.ErrorLevel {
		t.Errorf("got %+v", all)
	}
}

func TestBadConfig(t *testing.T) {
	for _, c := range []Config{{Level: "loud", Format: "json"}, {Level: "info", Format: "xml"}, {}} {
		if _, err := New("x", c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestContext(t *testing.T) {
	if From(t.Context()) == nil {
		t.Error("no logger of a bare context")
	}
	log := zap.NewExample()
	if From(Into(t.Context(), log)) != log {
		t.Error("another logger")
	}
}
