package main

import (
	"context"
	"fmt"
	"time"

	"darkroom/batch/jobs"
	"darkroom/batch/queue"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

// batchControl is batch status, batch cancel and batch retry.
func batchControl(c *cli.Context, e *env, what string) error {
	if c.NArg() != 2 {
		return &usageError{"batch", fmt.Sprintf("batch %s takes the ID of a batch: darkroom queue lists them (a job file of this name: ./%s)", what, what)}
	}
	id := c.Args().Get(1)
	ctx, cancel := context.WithTimeout(c.Context, time.Minute)
	defer cancel()
	q, err := queue.Connect(ctx, readQueueFlags(c))
	if err != nil {
		return err
	}
	defer q.Close()
	var s queue.Status
	switch what {
	case "cancel":
		s, err = q.Cancel(ctx, id)
	case "retry":
		var n int
		if n, err = q.Retry(ctx, id); err == nil {
			fmt.Fprintf(e.stderr, "%d failed pictures are queued again\n", n)
			s, err = q.Status(ctx, id)
		}
	default:
		s, err = q.Status(ctx, id)
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(e.stdout, s)
	}
	return println(e.stdout, statusText(s))
}

func statusText(s queue.Status) string {
	text := fmt.Sprintf("batch %s (%s): %d of %d done, %d failed, %d queued", s.ID, s.Name, s.Done, s.Total, s.Failed, s.Queued)
	if s.Cancelled {
		text += ", cancelled"
	}
	return text
}

func queueCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "queue",
		Usage: "show a queue: batches, workers, waiting jobs",
		Description: `Examples:
   darkroom queue
   darkroom queue --queue nats://10.0.0.1:4222 --json`,
		Flags: append(queueFlags(), jsonFlag("print one line of JSON")),
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			return showQueue(c.Context, e, readQueueFlags(c), c.Bool("json"))
		},
	}
}

func showQueue(ctx context.Context, e *env, o queue.Options, asJSON bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	q, err := queue.Connect(ctx, o)
	if err != nil {
		return err
	}
	defer q.Close()
	all, err := q.Overview(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(e.stdout, all)
	}
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"priority", "waiting", "with workers"})
	for _, p := range jobs.Priorities {
		t.AppendRow(table.Row{p, all.Queued[p] - all.Held[p], all.Held[p]})
	}
	t.Render()
	fmt.Fprintf(e.stdout, "dead: %d (darkroom batch retry ID queues them again)\n\n", all.Dead)
	t = newTable(e.stdout)
	t.AppendHeader(table.Row{"batch", "jobs", "done", "failed", "queued", "of", "submitted"})
	for _, b := range all.Batches {
		name := b.Name
		if b.Cancelled {
			name += " (cancelled)"
		}
		t.AppendRow(table.Row{b.ID, name, b.Done, b.Failed, b.Queued, b.Total, b.Submitted.Local().Format(time.DateTime)})
	}
	t.Render()
	_ = println(e.stdout)
	t = newTable(e.stdout)
	t.AppendHeader(table.Row{"worker", "device", "job", "batch", "images/min", "done", "failed"})
	for _, w := range all.Workers {
		t.AppendRow(table.Row{w.ID, w.Device, fmt.Sprintf("%.10s", w.Job), w.Batch, fmt.Sprintf("%.1f", w.PerMin), w.Done, w.Failed})
	}
	t.Render()
	return nil
}
