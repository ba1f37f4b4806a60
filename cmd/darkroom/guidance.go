package main

import (
	"fmt"
	"math"

	"darkroom/guidance"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

func guidanceCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "guidance",
		Usage: "list the guidance methods and their parameters",
		Description: `A guidance method is written NAME or NAME:key=value,key=value. --cfg is its scale.

Examples:
   darkroom guidance
   darkroom generate "a red apple" --cfg 4 --guidance apg:momentum=-0.5
   darkroom generate "a red apple" --guidance cfg:low=0.3,high=5
   darkroom compare --guidance cfg,cfg-zero,apg:eta=0 --prompts prompts.txt -o report/`,
		Flags: []cli.Flag{jsonFlag("print one line of JSON per method")},
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			return listGuidance(e, c.Bool("json"))
		},
	}
}

// guidanceInfo is a line of guidance --json.
type guidanceInfo struct {
	Name  string        `json:"name"`
	About string        `json:"about"`
	Paper string        `json:"paper"`
	Keys  []guidanceKey `json:"keys"`
}

type guidanceKey struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	Default *float64 `json:"default"` // null: no bound
	Low     float64  `json:"low"`
	High    *float64 `json:"high"` // null: any
}

func listGuidance(e *env, asJSON bool) error {
	methods := guidance.Methods()
	if asJSON {
		for _, m := range methods {
			info := guidanceInfo{Name: m.Name, About: m.About, Paper: m.Paper}
			for _, k := range m.Keys {
				info.Keys = append(info.Keys, guidanceKey{k.Name, k.About, unlessEndless(k.Default), k.Low, unlessEndless(k.High)})
			}
			if err := printJSON(e.stdout, info); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"guidance", "about", "source"})
	for _, m := range methods {
		t.AppendRow(table.Row{m.Name, m.About, m.Paper})
	}
	t.Render()
	if err := println(e.stdout); err != nil {
		return err
	}
	t = newTable(e.stdout)
	t.AppendHeader(table.Row{"of", "key", "from – to", "default", "about"})
	for i, m := range methods {
		own := len(m.Keys) - len(methods[0].Keys) // cfg has those of all methods alone
		for _, k := range m.Keys[:own] {
			t.AppendRow(keyRow(m.Name, k))
		}
		if i == len(methods)-1 {
			for _, k := range m.Keys[own:] {
				t.AppendRow(keyRow("all", k))
			}
		}
	}
	t.Render()
	return nil
}

func keyRow(of string, k guidance.Key) table.Row {
	text := func(v float64, endless string) string {
		if v == math.MaxFloat32 {
			return endless
		}
		return fmt.Sprint(v)
	}
	return table.Row{of, k.Name, text(k.Low, "") + " – " + text(k.High, "∞"), text(k.Default, "∞"), k.About}
}

func unlessEndless(v float64) *float64 {
	if v == math.MaxFloat32 {
		return nil
	}
	return &v
}
