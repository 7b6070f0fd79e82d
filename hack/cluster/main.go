package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := app(commands()).RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// commands is everything the program can do.
func commands() []*cli.Command {
	return []*cli.Command{
		{Name: "up", Usage: "start a cluster, or mend the one that exists, and wait until it is ready", Flags: upFlags(),
			Action: func(x *cli.Context) error {
				cfg, err := upConfig(x)
				if err != nil {
					return err
				}
				return with(x, 0, func(c *cluster) error { return c.up(x.Context, cfg) })
			}},
		{Name: "down", Usage: "end a cluster and leave nothing behind",
			Action: func(x *cli.Context) error {
				return with(x, 0, func(c *cluster) error { return c.down(x.Context) })
			}},
		{Name: "status", Usage: "show every daemon and node",
			Action: func(x *cli.Context) error {
				return with(x, 0, func(c *cluster) error { return c.status(x.Context) })
			}},
		{Name: "kubeconfig", Usage: "print where the administrator's kubeconfig is",
			Action: func(x *cli.Context) error {
				return with(x, 0, func(c *cluster) error { return c.printKubeconfig() })
			}},
		{Name: "node", Usage: "add a node, or do to one what happens to machines", Subcommands: nodeCommands()},
		{Name: "kill", Usage: "kill -9 a daemon (see status for their names)", ArgsUsage: "DAEMON",
			Action: func(x *cli.Context) error {
				return with(x, 1, func(c *cluster) error {
					return c.change(func() error { return c.killDaemon(x.Context, x.Args().First()) })
				})
			}},
		{Name: "start", Usage: "start a daemon that was killed", ArgsUsage: "DAEMON",
			Action: func(x *cli.Context) error {
				return with(x, 1, func(c *cluster) error {
					return c.change(func() error { return c.startDaemon(x.Context, x.Args().First()) })
				})
			}},
		{Name: "load", Usage: "push the images of an OCI archive to the cluster's registry", ArgsUsage: "ARCHIVE",
			Action: func(x *cli.Context) error {
				return with(x, 1, func(c *cluster) error {
					return c.change(func() error { return c.loadArchive(x.Args().First()) })
				})
			}},
		{Name: "exec", Usage: "run a command inside a node's network", ArgsUsage: "NODE -- COMMAND …",
			Action: func(x *cli.Context) error {
				args := x.Args().Slice()
				if len(args) > 1 && args[1] == "--" {
					args = append(args[:1], args[2:]...)
				}
				if len(args) < 2 {
					return fmt.Errorf("exec: say NODE -- COMMAND")
				}
				return with(x, -1, func(c *cluster) error { return c.exec(args[0], args[1:]) })
			}},
		{Name: "logs", Usage: "print a daemon's log", ArgsUsage: "DAEMON", Flags: logFlags(),
			Action: func(x *cli.Context) error {
				return with(x, 1, func(c *cluster) error { return c.logs(x.Context, x.Args().First(), x.Bool(flagFollow)) })
			}},
		{Name: "registry", Hidden: true, Action: func(x *cli.Context) error {
			return with(x, 0, func(c *cluster) error {
				if err := c.load(); err != nil {
					return err
				}
				return c.serveRegistry(x.Context)
			})
		}},
		{Name: "routes", Hidden: true, Action: func(x *cli.Context) error {
			return with(x, 0, func(c *cluster) error {
				if err := c.load(); err != nil {
					return err
				}
				return c.serveRoutes(x.Context)
			})
		}},
	}
}

// nodeCommands are what can be done to a node.
func nodeCommands() []*cli.Command {
	one := func(name, usage string, do func(*cluster, context.Context, *node) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: "NODE", Action: func(x *cli.Context) error {
			return with(x, 1, func(c *cluster) error {
				return c.change(func() error {
					n, err := c.node(x.Args().First())
					if err != nil {
						return err
					}
					return do(c, x.Context, n)
				})
			})
		}}
	}
	return []*cli.Command{
		{Name: "add", Usage: "add a node", Action: func(x *cli.Context) error {
			return with(x, 0, func(c *cluster) error {
				return c.change(func() error {
					n, err := c.addNode()
					if err != nil {
						return err
					}
					return c.startNode(x.Context, n)
				})
			})
		}},
		one("stop", "shut it down in order", (*cluster).stopNode),
		one("start", "start it after a stop or a kill", (*cluster).startNode),
		one("kill", "cut its power", (*cluster).killNode),
		one("pause", "stop its daemons without ending them", func(c *cluster, _ context.Context, n *node) error { return c.pauseNode(n) }),
		one("partition", "pull its network cable", func(c *cluster, _ context.Context, n *node) error { return c.partitionNode(n) }),
		{Name: "address", Usage: "give it another address, or two of both families with a comma between", ArgsUsage: "NODE ADDRESS", Action: func(x *cli.Context) error {
			return with(x, 2, func(c *cluster) error {
				return c.change(func() error {
					n, err := c.node(x.Args().First())
					if err != nil {
						return err
					}
					return c.moveNode(x.Context, n, x.Args().Get(1))
				})
			})
		}},
		one("heal", "undo a pause or a partition", func(c *cluster, _ context.Context, n *node) error { return c.healNode(n) }),
	}
}

// with makes the cluster that the flags name and checks the number of arguments (-1: any).
func with(x *cli.Context, args int, do func(*cluster) error) error {
	if args >= 0 && x.NArg() != args {
		return fmt.Errorf("%s takes %d argument(s) %s, not %d", x.Command.Name, args, x.Command.ArgsUsage, x.NArg())
	}
	c, err := newCluster(configOf(x))
	if err != nil {
		return err
	}
	return do(c)
}

// change runs what alters an existing cluster, one command at a time.
func (c *cluster) change(do func() error) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.load(); err != nil {
		return err
	}
	return do()
}

func (c *cluster) printKubeconfig() error {
	if err := c.load(); err != nil {
		return err
	}
	c.say("%s", c.adminKubeconfig())
	return nil
}
