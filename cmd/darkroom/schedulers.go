package main

import (
	"fmt"

	"darkroom/scheduler"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

func schedulersCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "schedulers",
		Usage: "list the schedulers and sigma spacings",
		Description: `A name with a suffix, such as dpm++2m-karras, is the scheduler with that spacing of sigmas.

Examples:
   darkroom schedulers
   darkroom generate "a red apple" --scheduler dpm++2m --sigmas karras`,
		Flags: []cli.Flag{jsonFlag("print one line of JSON per scheduler")},
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			return schedulers(e, c.Bool("json"))
		},
	}
}

func schedulers(e *env, asJSON bool) error {
	if asJSON {
		for _, s := range scheduler.Names() {
			if err := printJSON(e.stdout, s); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"scheduler", "order", "calls", "about", "source"})
	for _, s := range scheduler.Names() {
		order := "–"
		if s.Order > 0 {
			order = fmt.Sprint(s.Order)
		}
		t.AppendRow(table.Row{s.Name, order, s.Calls, s.About, s.Paper})
	}
	t.Render()
	if err := println(e.stdout); err != nil {
		return err
	}
	t = newTable(e.stdout)
	t.AppendHeader(table.Row{"sigmas", "about"})
	for _, s := range scheduler.SigmaSchedules() {
		t.AppendRow(table.Row{s[0], s[1]})
	}
	t.Render()
	return nil
}
