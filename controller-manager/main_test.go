package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestControllersFlag(t *testing.T) {
	for name, tc := range map[string]struct {
		args  []string
		on    map[string]bool
		fails string
	}{
		"all by default": {on: map[string]bool{"deployment": true, "replicaset": true}},
		"all but one":    {args: []string{"--controllers=*,-replicaset"}, on: map[string]bool{"deployment": true, "replicaset": false}},
		"one":            {args: []string{"--controllers=replicaset"}, on: map[string]bool{"deployment": false, "replicaset": true}},
		"an unknown one": {args: []string{"--controllers=*,-deploymint"}, fails: `no controller "deploymint"`},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg Config
			app := &cli.App{Flags: flags(&cfg), Action: func(*cli.Context) error {
				table, err := enabled(controllers(cfg), cfg.Controllers.Value())
				if (err == nil) != (tc.fails == "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("error %v, want one with %q", err, tc.fails)
				}
				got := map[string]bool{}
				for _, l := range table {
					got[l.Name] = true
				}
				for name, want := range tc.on {
					if got[name] != want {
						t.Errorf("%s is %v, want %v", name, got[name], want)
					}
				}
				return nil
			}}
			if err := app.Run(append([]string{"controller-manager", "--kubeconfig=none"}, tc.args...)); err != nil {
				t.Error(err)
			}
		})
	}
}
