// Package history remembers what was rendered on this machine: a small SQLite database that is searched by prompt,
// model and date, and that knows how fast the machine is.
package history

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"darkroom/batch/jobs"

	_ "modernc.org/sqlite" // the driver, in Go
)

// History is an open database. Several programs may have it open at once.
type History struct{ db *sql.DB }

// Entry is a picture that was rendered.
type Entry struct {
	ID        int64        `json:"id"`
	At        time.Time    `json:"at"`
	File      string       `json:"file"` // where it was written: an absolute path, or s3://…
	SHA256    string       `json:"sha256"`
	Bytes     int64        `json:"bytes"`
	Seconds   float64      `json:"seconds"`
	Model     string       `json:"model"`
	ModelHash string       `json:"model_hash"`
	Backend   string       `json:"backend"`
	DType     string       `json:"dtype"`
	Steps     int          `json:"steps"`
	Width     int          `json:"width"`
	Height    int          `json:"height"`
	Request   jobs.Request `json:"request"`
}

const schema = `
CREATE TABLE IF NOT EXISTS images (
	id INTEGER PRIMARY KEY,
	at INTEGER NOT NULL, -- milliseconds since 1970
	file TEXT NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, seconds REAL NOT NULL,
	model TEXT NOT NULL, model_hash TEXT NOT NULL, backend TEXT NOT NULL, dtype TEXT NOT NULL,
	steps INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
	prompt TEXT NOT NULL, request TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS images_at ON images (at);
CREATE INDEX IF NOT EXISTS images_model ON images (model, backend, dtype, id);`

// version of the schema, in the database's user_version.
const version = 1

// Open opens the database at path, and makes it if it is missing.
func Open(path string) (*History, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	// WAL, so that readers do not wait for writers; busy_timeout in milliseconds, so that writers wait for each other.
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	db.SetMaxOpenConns(1)
	h := &History{db}
	if err := h.prepare(); err != nil {
		db.Close()
		return nil, fmt.Errorf("history %s: %w", path, err)
	}
	return h, nil
}

func (h *History) prepare() error {
	var have int
	if err := h.db.QueryRow("PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if have > version {
		return fmt.Errorf("it is of a newer darkroom (version %d, this one knows %d)", have, version)
	}
	_, err := h.db.Exec(schema + fmt.Sprintf("PRAGMA user_version = %d;", version))
	return err
}

// Close closes the database.
func (h *History) Close() error { return h.db.Close() }

// Add writes down a picture. Its ID is set by the database.
func (h *History) Add(e Entry) error {
	request, err := json.Marshal(e.Request)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	_, err = h.db.Exec(`INSERT INTO images (at, file, sha256, bytes, seconds, model, model_hash, backend, dtype, steps, width, height, prompt, request)
		VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		e.At.UnixMilli(), e.File, e.SHA256, e.Bytes, e.Seconds, e.Model, e.ModelHash, e.Backend, e.DType, e.Steps, e.Width, e.Height, e.Request.Prompt, string(request))
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// Query says what to look for. Zero fields ask nothing.
type Query struct {
	Text         string // words that the prompt has, all of them, in any case
	Model        string // part of the model's name
	Since, Until time.Time
	Limit        int // 0: all
}

// Find lists pictures, the latest first.
func (h *History) Find(q Query) ([]Entry, error) {
	where, args := []string{"1"}, []any{}
	and := func(condition string, arg any) {
		where, args = append(where, condition), append(args, arg)
	}
	for _, word := range strings.Fields(q.Text) {
		and(`prompt LIKE ? ESCAPE '\'`, like(word))
	}
	if q.Model != "" {
		and(`model LIKE ? ESCAPE '\'`, like(q.Model))
	}
	if !q.Since.IsZero() {
		and("at >= ?", q.Since.UnixMilli())
	}
	if !q.Until.IsZero() {
		and("at < ?", q.Until.UnixMilli())
	}
	limit := q.Limit
	if limit <= 0 {
		limit = -1
	}
	return h.list(strings.Join(where, " AND ")+" ORDER BY at DESC, id DESC LIMIT ?", append(args, limit)...)
}

func like(word string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(word) + "%"
}

// Get is the picture with that ID.
func (h *History) Get(id int64) (Entry, error) {
	list, err := h.list("id = ?", id)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("history: there is no picture %d", id)
	}
	if err != nil {
		return Entry{}, err
	}
	return list[0], nil
}

func (h *History) list(where string, args ...any) (list []Entry, err error) {
	rows, err := h.db.Query("SELECT id, at, file, sha256, bytes, seconds, model, model_hash, backend, dtype, steps, width, height, request FROM images WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e Entry
		var at int64
		var request string
		if err := rows.Scan(&e.ID, &at, &e.File, &e.SHA256, &e.Bytes, &e.Seconds, &e.Model, &e.ModelHash, &e.Backend, &e.DType, &e.Steps, &e.Width, &e.Height, &request); err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
		e.At = time.UnixMilli(at)
		if err := json.Unmarshal([]byte(request), &e.Request); err != nil {
			return nil, fmt.Errorf("history: picture %d: %w", e.ID, err)
		}
		list = append(list, e)
	}
	return list, rows.Err()
}

// Speed is what was measured of the latest pictures of a model ("" any) on a backend ("" any).
type Speed struct {
	Pictures      int
	SecondsPerPix float64 // seconds of a step on a pixel, the median
	BytesPerPix   float64 // of the file, the median
}

// Seconds estimates a picture.
func (s Speed) Seconds(steps, width, height int) float64 {
	return s.SecondsPerPix * float64(steps) * float64(width) * float64(height)
}

// Speed reads the latest hundred pictures.
func (h *History) Speed(model, backend string) (Speed, error) {
	rows, err := h.db.Query(`SELECT seconds / (steps * width * height), 1.0 * bytes / (width * height) FROM images
		WHERE (? = '' OR model = ?) AND (? = '' OR backend = ?) AND steps > 0 AND width > 0 AND height > 0 ORDER BY id DESC LIMIT 100`, model, model, backend, backend)
	if err != nil {
		return Speed{}, fmt.Errorf("history: %w", err)
	}
	defer rows.Close()
	var seconds, bytes []float64
	for rows.Next() {
		var s, b float64
		if err := rows.Scan(&s, &b); err != nil {
			return Speed{}, fmt.Errorf("history: %w", err)
		}
		seconds, bytes = append(seconds, s), append(bytes, b)
	}
	if len(seconds) == 0 {
		return Speed{}, rows.Err()
	}
	return Speed{len(seconds), median(seconds), median(bytes)}, rows.Err()
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// Command is the command line that makes the picture again.
func (e *Entry) Command() string {
	g := e.Request.Given
	for name, value := range map[string]string{"backend": e.Backend, "dtype": e.DType} {
		if !g.Has(name) && value != "" {
			g.Set(name, value)
		}
	}
	return g.Command()
}
