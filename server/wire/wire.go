// Package wire holds what the server's own API sends and takes: package server answers with it, and package client reads it.
// Settings go by the names of the table in package recipe.
package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// The states of a job.
const (
	Queued    = "queued"
	Running   = "running"
	Done      = "done"
	Failed    = "failed"
	Cancelled = "cancelled"
)

// Ended reports whether a job in that state changes no more.
func Ended(state string) bool { return state == Done || state == Failed || state == Cancelled }

// Job is one or more pictures that were asked for together.
type Job struct {
	ID       string          `json:"id"`
	State    string          `json:"state" enum:"queued,running,done,failed,cancelled"`
	Priority int             `json:"priority" doc:"the higher, the sooner; 0 is normal"`
	Position int             `json:"position" doc:"pictures ahead of it in the queue"`
	Origin   string          `json:"origin" doc:"the API that it came through: jobs, openai or sdapi"`
	Created  time.Time       `json:"created"`
	Started  *time.Time      `json:"started"`
	Ended    *time.Time      `json:"ended"`
	Pictures []Picture       `json:"pictures" doc:"the finished ones"`
	Count    int             `json:"count" doc:"pictures that were asked for"`
	Error    string          `json:"error,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Settings json.RawMessage `json:"settings" doc:"those requested for its first picture"`
	Progress *Progress       `json:"progress"`
}

// Progress is the progress of a job's picture being rendered.
type Progress struct {
	Picture     int     `json:"picture" doc:"from 0"`
	Step        int     `json:"step"`
	Steps       int     `json:"steps"`
	SecondsLeft float64 `json:"seconds_left" doc:"of this picture, as far as its steps so far tell"`
}

// Picture is a finished picture.
type Picture struct {
	ID        string          `json:"id"`
	Job       string          `json:"job,omitempty"`
	Index     int             `json:"index" doc:"its place in the job, from 0"`
	URL       string          `json:"url"`
	Thumbnail string          `json:"thumbnail"`
	Prompt    string          `json:"prompt"`
	Seed      uint64          `json:"seed"`
	Width     int             `json:"width"`
	Height    int             `json:"height"`
	Created   time.Time       `json:"created"`
	Seconds   float64         `json:"seconds" doc:"rendering time"`
	Settings  json.RawMessage `json:"settings"`
	SHA256    string          `json:"sha256"`
	Bytes     int64           `json:"bytes"`
	Own       bool            `json:"own" doc:"made by this server, which may delete it"`
	Missing   bool            `json:"missing" doc:"the file is gone or was changed"`
}

// Event is a piece of progress, as a server-sent event has it: Type is its event, Data its data.
type Event struct {
	Type string
	Data any // Job, ProgressEvent, PreviewEvent or Picture
}

// The types of events.
const (
	StateEvent   = "state"    // Job
	ProgressType = "progress" // ProgressEvent
	PreviewType  = "preview"  // PreviewEvent
	PictureType  = "picture"  // Picture
	EndEvent     = "end"      // Job: nothing follows
)

// ProgressEvent is a step that is done.
type ProgressEvent struct {
	Job string `json:"job"`
	Progress
}

// PreviewEvent is what a picture is expected to look like.
type PreviewEvent struct {
	Job     string `json:"job"`
	Picture int    `json:"picture"`
	Step    int    `json:"step"`
	Image   string `json:"image" doc:"a data: URL of a JPEG"`
}

// JobList is an answer to GET /v1/jobs, the latest first.
type JobList struct {
	Jobs []Job  `json:"jobs"`
	Next string `json:"next,omitempty" doc:"for ?before=, where there are more"`
}

// PictureList is an answer to GET /v1/pictures, the latest first.
type PictureList struct {
	Pictures []Picture `json:"pictures"`
	Next     string    `json:"next,omitempty" doc:"for ?before=, where there are more"`
}

// Error reports what went wrong, in the shape of OpenAI's API.
type Error struct {
	Status  int    `json:"-"`
	Message string `json:"message"`
	Type    string `json:"type"`
	Param   string `json:"param,omitempty"`
	Code    string `json:"code,omitempty"`
}

// MarshalJSON writes param and code as null where there is none, as that API does.
func (e Error) MarshalJSON() ([]byte, error) {
	null := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return json.Marshal(struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}{e.Message, e.Type, null(e.Param), null(e.Code)})
}

func (e *Error) Error() string {
	if e.Param != "" {
		return fmt.Sprintf("%s: %s", e.Param, e.Message)
	}
	return e.Message
}

// ErrorBody is an answer with an error.
type ErrorBody struct {
	Error Error `json:"error"`
}
