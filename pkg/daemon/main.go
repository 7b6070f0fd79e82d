// Package daemon is the frame of every daemon's main: signals, the flags all daemons have, and the group of parts that
// start in order and stop in reverse. It decides nothing about what a daemon does.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"pilothouse.dev/pkg/logging"
	"pilothouse.dev/pkg/memory"
	"pilothouse.dev/pkg/version"
)

// Spec is a daemon as main sees it.
type Spec struct {
	Name  string // of the binary
	Usage string // one line
	Flags []cli.Flag
	// Growth is how much the heap may grow before it is collected, in percent of what is alive; 0: as Go has it.
	Growth int
	// Run is called with the flags parsed. The context ends at SIGINT or SIGTERM; a second signal ends the process at once.
	Run func(ctx context.Context, log *zap.Logger) error
}

// Main runs a daemon and exits: 0 after a signal, 1 on an error, 2 on bad flags.
func Main(s Spec) { os.Exit(run(s, os.Args)) }

func run(s Spec, args []string) int {
	var lc logging.Config
	code := 2
	cli.VersionFlag = versionFlag()
	app := &cli.App{
		Name: s.Name, Usage: s.Usage, Version: version.String(),
		Flags:           append(commonFlags(&lc), s.Flags...),
		HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("unexpected argument %q: %s takes flags only, see --help", c.Args().First(), s.Name)
			}
			log, err := logging.New(s.Name, lc)
			if err != nil {
				return err
			}
			code = 1
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // the next signal kills
			log.Info("starting", zap.String("version", version.String()))
			idle, done := context.WithCancel(ctx)
			var small sync.WaitGroup
			small.Go(func() { memory.Run(idle, s.Growth, log) })
			err = s.Run(ctx, log)
			done()
			small.Wait()
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				err = nil // it was told to stop before it had started
			}
			if err != nil {
				log.Error("ended", zap.Error(err))
				return err
			}
			log.Info("stopped")
			return nil
		},
		ExitErrHandler: func(*cli.Context, error) {},
	}
	if err := app.Run(args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.Name, err)
		return code
	}
	return 0
}
