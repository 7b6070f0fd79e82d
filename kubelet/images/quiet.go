package images

import (
	"fmt"
	"io"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
)

// quiet is a log for the client library, which tells addresses as they are: signed ones are keys. What it warns of comes into our log without them; the
// rest is told by its errors.
func (s *Store) quiet() *log.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.AddHook(warnings{s.log})
	return logrus.NewEntry(l)
}

// warnings hands on what a log of another kind warns of.
type warnings struct{ to *zap.Logger }

func (w warnings) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel} }

func (w warnings) Fire(e *logrus.Entry) error {
	w.to.Warn("pulling: "+redact(e.Message), zap.String("why", redact(fmt.Sprint(e.Data[logrus.ErrorKey]))))
	return nil
}
