package pull

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"darkroom/atomicfile"
)

// state is what is remembered of a file that is not whole, beside it: whether the rest of it can be fetched is asked with it.
type state struct {
	URL       string `json:"url"`
	Size      int64  `json:"size"`      // -1: not known
	SHA256    string `json:"sha256"`    // "": not known
	GitOID    string `json:"gitOID"`    // likewise
	Validator string `json:"validator"` // for If-Range: a strong ETag, or the time of change
}

// part is a file under way, in a folder that no name leads out of.
type part struct {
	p    *Puller
	root *os.Root
	file File  // as it was promised
	st   state // as it is on the server
	have int64 // bytes
	body *os.File

	resumed  bool // a request's bytes were put after those of another
	restarts int
}

// nameFile keeps what the server calls a file that an address alone names.
const nameFile = ".name"

func partName(name string) string { return path.Join(path.Dir(name), "."+path.Base(name)+".part") }

// fetch brings one file into the folder, whole and compared with what was promised, going on where an earlier try ended. before
// is how many bytes of other files are there, for the progress.
func (p *Puller) fetch(ctx context.Context, root *os.Root, f File, before, all int64) error {
	if dir := path.Dir(f.Path); dir != "." {
		if err := root.MkdirAll(dir, 0o777); err != nil {
			return atomicfile.Explain(f.Path, err)
		}
	}
	x := &part{p: p, root: root, file: f}
	if err := x.open(); err != nil {
		return err
	}
	defer x.body.Close()
	progress := func() {
		if p.Progress != nil {
			total := all
			if total < 0 && f.Size < 0 && x.st.Size >= 0 {
				total = before + x.st.Size
			}
			p.Progress(f.Path, before+x.have, total)
		}
	}
	progress()
	again := true // what is wrong after it was resumed is fetched once more, from its start
	for idle := 0; ; {
		had := x.have
		done, err := x.try(ctx, progress)
		if done {
			err = x.verify()
			var wrong *wrongContent
			switch {
			case errors.As(err, &wrong) && x.resumed && again:
				again, x.resumed = false, false
				if err := x.restart(); err != nil {
					return err
				}
				continue
			case errors.As(err, &wrong):
				x.remove()
				return err
			case err != nil:
				return err
			}
			return x.finish()
		}
		var t *temporary
		if !errors.As(err, &t) {
			return err
		}
		if idle++; x.have > had {
			idle = 0
		}
		if idle >= p.tries() || x.restarts > p.tries() {
			return fmt.Errorf("%w; the part fetched so far is kept: run the same command again to continue", err)
		}
		if err := p.pause(ctx, max(idle, 1), t); err != nil {
			return err
		}
	}
}

// open finds what an earlier try left.
func (x *part) open() error {
	body, err := x.root.OpenFile(partName(x.file.Path), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return atomicfile.Explain(x.file.Path, err)
	}
	x.body = body
	x.st = state{}
	if text, err := x.root.ReadFile(partName(x.file.Path) + ".json"); err == nil {
		_ = json.Unmarshal(text, &x.st) // what cannot be read is of no use
	}
	st, err := body.Stat()
	if err != nil {
		return err
	}
	x.have = st.Size()
	x.resumed = x.have > 0
	if x.st.URL != x.file.URL {
		x.st.Validator = "" // it is another address's
	}
	known := x.file.SHA256 != "" && x.st.SHA256 == x.file.SHA256 || x.file.GitOID != "" && x.st.GitOID == x.file.GitOID
	same := known || !x.file.verified() && x.st.URL == x.file.URL && x.st.Validator != ""
	if !same || x.file.Size >= 0 && x.have > x.file.Size {
		x.st = state{SHA256: x.file.SHA256, GitOID: x.file.GitOID}
		err = x.restart()
	}
	x.st.URL = x.file.URL
	if err != nil {
		return err
	}
	return nil
}

// restart forgets what is there.
func (x *part) restart() error {
	x.have, x.st.Validator = 0, ""
	x.restarts++
	x.st.Size = x.file.Size
	if err := x.body.Truncate(0); err != nil {
		return atomicfile.Explain(x.file.Path, err)
	}
	return x.save()
}

func (x *part) save() error {
	text, err := json.Marshal(x.st)
	if err != nil {
		return err
	}
	return atomicfile.Explain(x.file.Path, x.root.WriteFile(partName(x.file.Path)+".json", text, 0o666))
}

func (x *part) remove() {
	_ = x.root.Remove(partName(x.file.Path))
	_ = x.root.Remove(partName(x.file.Path) + ".json")
}

// try makes one request for what is missing. done says that all is there.
func (x *part) try(ctx context.Context, progress func()) (done bool, err error) {
	if x.st.Size >= 0 && x.have == x.st.Size && x.have > 0 {
		return true, nil
	}
	header := http.Header{"Accept-Encoding": {"identity"}}
	if x.have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", x.have))
		if x.st.Validator != "" {
			header.Set("If-Range", x.st.Validator)
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r, err := x.p.do(ctx, http.MethodGet, x.file.URL, header, true)
	if err != nil {
		return false, err
	}
	defer r.Body.Close()
	if err := x.begin(r); err != nil {
		return false, err
	}
	err = x.copy(ctx, stop, r.Body, progress)
	switch {
	case err == nil && x.st.Size >= 0 && x.have < x.st.Size:
		err = &temporary{err: fmt.Errorf("%s: the connection ended at %d of %d bytes", x.file.Path, x.have, x.st.Size)}
	case err == nil && x.st.Size >= 0 && x.have > x.st.Size:
		x.remove()
		return false, fmt.Errorf("%s: the server sends more than the expected %d bytes", x.file.Path, x.st.Size)
	}
	return err == nil, err
}

// begin looks at an answer, and settles where its bytes go.
func (x *part) begin(r *http.Response) error {
	var total int64
	switch r.StatusCode {
	case http.StatusOK:
		if x.have > 0 { // another file than before, or a server that knows no ranges
			if err := x.restart(); err != nil {
				return err
			}
		}
		total = r.ContentLength
	case http.StatusPartialContent:
		from, of, ok := contentRange(r.Header.Get("Content-Range"))
		v := validator(r)
		if !ok || from != x.have || x.st.Validator != "" && v != "" && v != x.st.Validator && sameKind(v, x.st.Validator) || x.st.Size >= 0 && of >= 0 && of != x.st.Size {
			if err := x.restart(); err != nil {
				return err
			}
			return &temporary{err: fmt.Errorf("%s changed on the server: fetching it again from the start", x.file.Path)}
		}
		total = of
		x.resumed = true
	case http.StatusRequestedRangeNotSatisfiable:
		if err := x.restart(); err != nil {
			return err
		}
		return &temporary{err: fmt.Errorf("%s is shorter on the server than the part fetched so far: fetching it again from the start", x.file.Path)}
	default:
		return x.p.refused(Source{URL: x.file.URL}, r)
	}
	if kind := r.Header.Get("Content-Type"); strings.HasPrefix(kind, "text/html") && weightEnding(x.file.Path) {
		return fmt.Errorf("%s: the server sends a web page instead of the file: it may need a login", printableURL(x.file.URL))
	}
	if x.file.naming {
		if name, err := nameOf(r, x.file.URL); err == nil {
			if err := x.root.WriteFile(nameFile, []byte(name), 0o666); err != nil {
				return atomicfile.Explain(name, err)
			}
		} else if !x.file.named {
			return err
		}
	}
	if x.file.Size >= 0 && total >= 0 && total != x.file.Size {
		return fmt.Errorf("%s: the server sends %d bytes, but the file should have %d", x.file.Path, total, x.file.Size)
	}
	if total >= 0 {
		x.st.Size = total
	}
	if err := x.p.room(x.root.Name(), x.st.Size-x.have); err != nil {
		return err
	}
	if v := validator(r); v != "" || x.have == 0 {
		x.st.Validator = v
	}
	if _, err := x.body.Seek(x.have, io.SeekStart); err != nil {
		return err
	}
	return x.save()
}

// copy writes what comes, until the end, a cut, or a minute without a byte.
func (x *part) copy(ctx context.Context, stop context.CancelCauseFunc, from io.Reader, progress func()) error {
	stall := x.p.Stall
	if stall == 0 {
		stall = time.Minute
	}
	stalled := &temporary{err: fmt.Errorf("%s: no data arrived for %v", x.file.Path, stall)}
	watch := time.AfterFunc(stall, func() { stop(stalled) })
	defer watch.Stop()
	buf := make([]byte, 1<<18)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			watch.Reset(stall)
			if _, werr := x.body.Write(buf[:n]); werr != nil {
				return atomicfile.Explain(x.file.Path, werr)
			}
			x.have += int64(n)
			progress()
			if x.st.Size >= 0 && x.have > x.st.Size {
				return nil // try says so
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err == nil:
			continue
		case errors.Is(context.Cause(ctx), stalled):
			return stalled
		case ctx.Err() != nil:
			return ctx.Err()
		}
		return &temporary{err: fmt.Errorf("%s: the connection was cut at %d bytes: %w", x.file.Path, x.have, err)}
	}
}

// wrongContent is a file that is not the one that was promised.
type wrongContent struct{ error }

// verify compares what is there with what was promised.
func (x *part) verify() error {
	if err := x.body.Sync(); err != nil {
		return atomicfile.Explain(x.file.Path, err)
	}
	if _, err := x.body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return x.file.verify(x.body)
}

// verified reports whether there is a hash to compare the file with.
func (f *File) verified() bool { return f.SHA256 != "" || f.GitOID != "" }

// verify reads a file, and says whether it is what was promised.
func (f *File) verify(from io.Reader) error {
	var sum hash.Hash
	want := f.SHA256
	switch {
	case f.SHA256 != "":
		sum = sha256.New()
	case f.GitOID != "": // the SHA-1 of a file as git keeps it
		sum, want = sha1.New(), f.GitOID
		fmt.Fprintf(sum, "blob %d\x00", f.Size)
	default:
		return nil
	}
	if _, err := io.Copy(sum, from); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return &wrongContent{fmt.Errorf("%s: the download has the hash %s, but %s was expected: it is not kept", f.Path, got, want)}
	}
	return nil
}

// finish gives the file its name.
func (x *part) finish() error {
	if err := x.body.Close(); err != nil {
		return err
	}
	if err := x.root.Rename(partName(x.file.Path), x.file.Path); err != nil {
		return atomicfile.Explain(x.file.Path, err)
	}
	_ = x.root.Remove(partName(x.file.Path) + ".json")
	return nil
}

// room reports whether the disk has space for what is to come.
func (p *Puller) room(folder string, bytes int64) error {
	if p.FreeDisk == nil || bytes <= 0 {
		return nil
	}
	const spare = 16 << 20
	if free, known := p.FreeDisk(folder); known && free < uint64(bytes)+spare {
		return fmt.Errorf("the disk of %s has %s free, but %s are still to fetch: free some space, or name another folder with DARKROOM_MODELS", folder, sizeText(int64(free)), sizeText(bytes))
	}
	return nil
}

func sizeText(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%.2f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// validator is what tells one content from another at the same address: a strong ETag, or the time of change.
func validator(r *http.Response) string {
	if etag := r.Header.Get("ETag"); etag != "" && !strings.HasPrefix(etag, "W/") {
		return etag
	}
	return r.Header.Get("Last-Modified")
}

func sameKind(a, b string) bool { return strings.HasPrefix(a, `"`) == strings.HasPrefix(b, `"`) }

// contentRange reads "bytes 100-199/1000": where it starts, and the length of the whole, -1 where that is *.
func contentRange(text string) (from, of int64, ok bool) {
	var to int64
	var total string
	if n, err := fmt.Sscanf(text, "bytes %d-%d/%s", &from, &to, &total); err != nil || n != 3 || from < 0 || to < from {
		return 0, 0, false
	}
	if total == "*" {
		return from, -1, true
	}
	if _, err := fmt.Sscanf(total, "%d", &of); err != nil || of <= to {
		return 0, 0, false
	}
	return from, of, true
}

// isCut reports whether an error is a connection's end.
func isCut(err error) bool {
	for _, cut := range []error{io.ErrUnexpectedEOF, io.EOF, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.EPIPE, os.ErrDeadlineExceeded} {
		if errors.Is(err, cut) {
			return true
		}
	}
	return false
}
