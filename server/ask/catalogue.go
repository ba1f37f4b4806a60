package ask

import (
	"fmt"
	"sync"
	"time"

	"darkroom/batch/engine"
	"darkroom/batch/jobs"
	"darkroom/family"
	defaultmodel "darkroom/models/default"
	"darkroom/models/library"
	"darkroom/pipeline"
)

// Catalogue knows the models that are installed, and looks at them without rendering: their weights are not read.
type Catalogue struct {
	// Server is the model that the server was started with, a path; "" is the embedded one. It goes by its name, wherever it is.
	Server string

	engine *engine.Engine

	mu         sync.Mutex
	read       time.Time
	paths      map[string]string
	order      []string
	tokenizers map[string]*family.Tokenizer
	facts      map[string]Facts
}

// NewCatalogue makes a catalogue. hashes is a folder that keeps hashes of weights.
func NewCatalogue(server, hashes string) *Catalogue {
	return &Catalogue{
		Server: server, tokenizers: map[string]*family.Tokenizer{}, facts: map[string]Facts{},
		// The reference backend takes no memory before it renders.
		engine: engine.New(engine.Options{Pipeline: pipeline.Options{Backend: pipeline.Ref, HashCache: hashes}, Budget: 1 << 60}),
	}
}

// Facts are what is known of a model.
type Facts struct {
	Name string
	engine.Facts
	Problem string
}

// load looks for models, every few seconds at most. The caller holds mu.
func (c *Catalogue) load() {
	if time.Since(c.read) < 5*time.Second {
		return
	}
	c.read, c.paths, c.order = time.Now(), map[string]string{}, nil
	add := func(name, path string) {
		if _, twice := c.paths[name]; !twice {
			c.paths[name] = path
			c.order = append(c.order, name)
		}
	}
	if c.Server != "" && c.Server != defaultmodel.Name {
		add(library.NameOf(c.Server), c.Server)
	}
	add(defaultmodel.Name, defaultmodel.Name)
	for _, path := range library.Installed() {
		add(library.NameOf(path), path)
	}
}

// Refresh looks for models anew.
func (c *Catalogue) Refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.facts = time.Time{}, map[string]Facts{}
	c.load()
}

func (c *Catalogue) path(name string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	path, ok := c.paths[name]
	return path, ok
}

// names are those of all models, the server's first.
func (c *Catalogue) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	return append([]string(nil), c.order...)
}

// Names are the models' names, the server's own first.
func (c *Catalogue) Names() []string { return c.names() }

// Default is the name of the model for requests that name none.
func (c *Catalogue) Default() string { return c.names()[0] }

// Has reports whether there is a model of that name.
func (c *Catalogue) Has(name string) bool {
	_, ok := c.path(name)
	return ok
}

// Path is where a model is, the embedded one's name for that.
func (c *Catalogue) Path(name string) string {
	path, _ := c.path(name)
	return path
}

// Facts are those of a model, with Problem set if it cannot be opened.
func (c *Catalogue) Facts(name string) Facts {
	c.mu.Lock()
	f, ok := c.facts[name]
	c.mu.Unlock()
	if ok {
		return f
	}
	f = Facts{Name: name}
	path, ok := c.path(name)
	q := jobs.Request{}
	q.Set("model", path)
	err := fmt.Errorf("there is no model %.60q", name)
	if ok {
		f.Facts, err = c.engine.About(&q)
	}
	if err != nil {
		f.Problem = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.facts[name] = f
	return f
}

// plan is what rendering a request that was resolved will do. The error is what rendering would refuse.
func (c *Catalogue) plan(q *jobs.Request) (pipeline.Plan, error) {
	as := *q
	as.Backend, as.DType = "", ""
	if err := c.engine.Check(&as); err != nil {
		return pipeline.Plan{}, err
	}
	return c.engine.Plan(&as)
}

// ModelHash is the hash of the weights that a request, which was resolved, would use.
func (c *Catalogue) ModelHash(q *jobs.Request) (string, error) {
	as := *q
	as.Backend, as.DType = "", ""
	return c.engine.ModelHash(&as)
}

// Tokens takes a prompt apart for a model.
func (c *Catalogue) Tokens(model, prompt, syntax string) (family.Tokens, error) {
	path, ok := c.path(model)
	if !ok {
		return family.Tokens{}, fmt.Errorf("there is no model %.60q", model)
	}
	c.mu.Lock()
	t := c.tokenizers[path]
	c.mu.Unlock()
	if t == nil {
		folder, err := pipeline.OpenFolder(pipeline.Options{Model: path})
		if err != nil {
			return family.Tokens{}, err
		}
		if t, err = family.OpenTokenizer(folder); err != nil {
			return family.Tokens{}, err
		}
		c.mu.Lock()
		c.tokenizers[path] = t
		c.mu.Unlock()
	}
	return t.Read(prompt, syntax)
}

// Close closes what was looked at.
func (c *Catalogue) Close() error { return c.engine.Close() }
