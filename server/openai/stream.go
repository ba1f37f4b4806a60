package openai

import (
	"net/http"
	"strings"
	"time"

	"darkroom/server/web"
	"darkroom/server/wire"
)

// partial is a preview in a stream.
type partial struct {
	Type         string `json:"type"`
	B64JSON      string `json:"b64_json"`
	PartialIndex int    `json:"partial_image_index"`
	CreatedAt    int64  `json:"created_at"`
	Background   string `json:"background"`
	OutputFormat string `json:"output_format"`
	Quality      string `json:"quality"`
	Size         string `json:"size"`
	Picture      int    `json:"picture"` // of n
}

// completed is a finished picture in a stream.
type completed struct {
	Type         string `json:"type"`
	CreatedAt    int64  `json:"created_at"`
	Background   string `json:"background"`
	OutputFormat string `json:"output_format"`
	Quality      string `json:"quality"`
	Size         string `json:"size"`
	Usage        Usage  `json:"usage"`
	Index        int    `json:"picture"` // of n
	Picture
}

// stream answers with server-sent events: previews, and each picture when it is finished. Previews are JPEGs whatever the format of
// the pictures: they say so.
func (a *API) stream(w http.ResponseWriter, r *http.Request, q *request, id string, events <-chan wire.Event) error {
	kind := "image_generation"
	if q.edit {
		kind = "image_edit"
	}
	s := web.NewStream(w)
	beat := time.NewTicker(web.BeatTime)
	defer beat.Stop()
	partials, sent := map[int]int{}, map[int]bool{}
	finish := func() error { // also what was finished before we listened
		for i, result := range a.Jobs.Results(id) {
			switch {
			case sent[i]:
			case result.Err != nil:
				return s.Send("error", errorEvent(failure(result.Err)))
			default:
				sent[i] = true
				if err := a.sendCompleted(s, r, q, id, kind, i); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if job, ok := a.Jobs.Get(id); ok && wire.Ended(job.State) {
		_ = finish()
		return nil
	}
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-beat.C:
			if s.Beat() != nil {
				return nil
			}
		case e, ok := <-events:
			var err error
			switch data := e.Data.(type) {
			case wire.PreviewEvent:
				if most := *q.body.PartialImages; partials[data.Picture] < most {
					out := a.envelope(q, id)
					_, b64, _ := strings.Cut(data.Image, ",")
					err = s.Send(kind+".partial_image", partial{
						kind + ".partial_image", b64, partials[data.Picture], time.Now().Unix(), out.Background, "jpeg", out.Quality, q.body.Size, data.Picture,
					})
					partials[data.Picture]++
				}
			case wire.Picture:
				if !sent[data.Index] {
					sent[data.Index] = true
					err = a.sendCompleted(s, r, q, id, kind, data.Index)
				}
			}
			if !ok || e.Type == wire.EndEvent {
				if !ok { // we were too slow for the events, and ask for the end
					if _, err := a.Jobs.Wait(r.Context(), id); err != nil {
						return nil
					}
				}
				_ = finish()
				return nil
			}
			if err != nil {
				return nil
			}
		}
	}
}

func (a *API) sendCompleted(s *web.Stream, r *http.Request, q *request, id, kind string, index int) error {
	results := a.Jobs.Results(id)
	if index >= len(results) || results[index].Err != nil {
		return nil
	}
	p, err := a.picture(r, q, results[index])
	if err != nil {
		return s.Send("error", errorEvent(err))
	}
	out := a.envelope(q, id)
	return s.Send(kind+".completed", completed{
		kind + ".completed", time.Now().Unix(), out.Background, out.OutputFormat, out.Quality, out.Size, out.Usage, index, p,
	})
}

// errorEvent is an error as an event, after which nothing comes.
func errorEvent(err error) any {
	return struct {
		Type  string     `json:"type"`
		Error wire.Error `json:"error"`
	}{"error", *web.Failure(err)}
}
