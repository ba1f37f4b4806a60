package pull

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Hub is the address of the Hugging Face hub where HF_ENDPOINT names no other.
const Hub = "https://huggingface.co"

// File is one file of what is fetched.
type File struct {
	Path   string // below the folder
	URL    string
	Size   int64  // bytes; -1 where the server does not say
	SHA256 string // "" where it is not known in advance
	GitOID string // git's name of a small file, which has no SHA-256 on the hub

	naming bool // what the server calls it is kept in nameFile
	named  bool // the user gave it a name
}

// repository is what the hub says of one.
type repository struct {
	commit  string
	licence string
	files   []File
}

// maxAnswer bounds the hub's answers, in bytes.
const maxAnswer = 64 << 20

// repository reads the list of a repository's files, with sizes and hashes, at one commit: all files are then of it.
func (p *Puller) repository(ctx context.Context, s Source) (*repository, error) {
	rev := cmp.Or(s.Rev, "main")
	var info struct {
		SHA      string    `json:"sha"`
		Siblings []sibling `json:"siblings"`
		CardData struct {
			License     any    `json:"license"`
			LicenseName string `json:"license_name"`
		} `json:"cardData"`
	}
	err := p.api(ctx, s, fmt.Sprintf("%s/api/models/%s/revision/%s?blobs=true", p.Endpoint, s.Repo, url.PathEscape(rev)), &info)
	if err != nil {
		return nil, err
	}
	r := &repository{commit: cmp.Or(info.SHA, rev), licence: info.CardData.LicenseName}
	if name, ok := info.CardData.License.(string); ok && (r.licence == "" || name != "other") {
		r.licence = name
	}
	if !revision.MatchString(r.commit) {
		return nil, fmt.Errorf("the hub says that %s is at %.80q, which is not a commit", s, r.commit)
	}
	err = p.tree(ctx, s, r)
	if err != nil && len(info.Siblings) > 0 && errors.Is(err, errNotThere) { // a mirror without trees
		return r, p.siblings(s, r, info.Siblings)
	}
	return r, err
}

// sibling is a file as the description of a repository lists it; sizes and hashes are usually there.
type sibling struct {
	Path string `json:"rfilename"`
	Size *int64 `json:"size"`
	OID  string `json:"blobId"`
	LFS  *struct {
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
	} `json:"lfs"`
}

// siblings takes the files from the description.
func (p *Puller) siblings(s Source, r *repository, all []sibling) error {
	r.files = nil
	for _, e := range all {
		if !safe(e.Path) {
			continue
		}
		f := File{Path: e.Path, URL: p.resolve(s.Repo, r.commit, e.Path), Size: -1}
		if e.Size != nil && *e.Size >= 0 {
			f.Size = *e.Size
		}
		switch {
		case e.LFS != nil && isSHA256(strings.ToLower(e.LFS.SHA256)):
			f.SHA256, f.Size = strings.ToLower(e.LFS.SHA256), e.LFS.Size
		case e.LFS == nil && len(e.OID) == 40 && f.Size >= 0:
			f.GitOID = strings.ToLower(e.OID)
		}
		r.files = append(r.files, f)
	}
	return nil
}

// settle asks about files of which neither size nor hash is known.
func (p *Puller) settle(ctx context.Context, s Source, commit string, files []File) error {
	for i, f := range files {
		if f.verified() || f.Size >= 0 {
			continue
		}
		one := s
		one.Rev, one.File = commit, f.Path
		err := p.again(ctx, func() error {
			asked, err := p.head(ctx, one)
			asked.Path = f.Path
			files[i] = asked
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tree reads the files of a commit, a page at a time.
func (p *Puller) tree(ctx context.Context, s Source, r *repository) error {
	const mostPages = 100
	next := fmt.Sprintf("%s/api/models/%s/tree/%s?recursive=true", p.Endpoint, s.Repo, url.PathEscape(r.commit))
	for range mostPages {
		var entries []struct {
			Type string `json:"type"`
			Path string `json:"path"`
			Size int64  `json:"size"`
			OID  string `json:"oid"`
			LFS  *struct {
				OID  string `json:"oid"`
				Size int64  `json:"size"`
			} `json:"lfs"`
		}
		link, err := p.page(ctx, s, next, &entries)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Type != "file" || !safe(e.Path) {
				continue // hidden files, and names that nobody can mean
			}
			f := File{Path: e.Path, URL: p.resolve(s.Repo, r.commit, e.Path), Size: e.Size}
			if e.LFS == nil && len(e.OID) == 40 {
				f.GitOID = strings.ToLower(e.OID)
			}
			if e.LFS != nil {
				f.Size, f.SHA256 = e.LFS.Size, strings.TrimPrefix(strings.ToLower(e.LFS.OID), "sha256:")
				if !isSHA256(f.SHA256) {
					return fmt.Errorf("the hub says that %s has the hash %.80q, which is not a SHA-256", e.Path, e.LFS.OID)
				}
			}
			if f.Size < 0 {
				return fmt.Errorf("the hub says that %s has %d bytes", e.Path, f.Size)
			}
			r.files = append(r.files, f)
		}
		if link == "" {
			return nil
		}
		next = link
	}
	return fmt.Errorf("%s has too many files", s)
}

// head asks about one file: the hub's answer, before it sends on to where the bytes are, has size and hash.
func (p *Puller) head(ctx context.Context, s Source) (File, error) {
	f := File{Path: path.Base(s.File), URL: p.resolve(s.Repo, cmp.Or(s.Rev, "main"), s.File), Size: -1}
	r, err := p.do(ctx, http.MethodHead, f.URL, http.Header{"Accept-Encoding": {"identity"}}, false)
	if err != nil {
		return f, err
	}
	r.Body.Close()
	if r.StatusCode == http.StatusMethodNotAllowed || r.StatusCode == http.StatusNotImplemented {
		return f, nil // a server that answers GET alone
	}
	if r.StatusCode >= 400 {
		return f, p.refused(s, r)
	}
	if commit := r.Header.Get("X-Repo-Commit"); commit != "" && revision.MatchString(commit) {
		f.URL = p.resolve(s.Repo, commit, s.File)
	}
	if etag := strings.ToLower(strings.Trim(r.Header.Get("X-Linked-Etag"), `"`)); isSHA256(etag) {
		f.SHA256 = etag
	} else if etag := strings.ToLower(strings.Trim(r.Header.Get("ETag"), `"`)); isSHA256(etag) {
		f.SHA256 = etag
	}
	if n, err := strconv.ParseInt(r.Header.Get("X-Linked-Size"), 10, 64); err == nil && n >= 0 {
		f.Size = n
	} else if r.StatusCode == http.StatusOK && r.ContentLength >= 0 {
		f.Size = r.ContentLength
	}
	return f, nil
}

func (p *Puller) resolve(repo, rev, file string) string {
	var parts []string
	for _, part := range strings.Split(file, "/") {
		parts = append(parts, url.PathEscape(part))
	}
	return fmt.Sprintf("%s/%s/resolve/%s/%s", p.Endpoint, repo, url.PathEscape(rev), strings.Join(parts, "/"))
}

func (p *Puller) api(ctx context.Context, s Source, address string, into any) error {
	_, err := p.page(ctx, s, address, into)
	return err
}

// page reads one answer, and where the next one is.
func (p *Puller) page(ctx context.Context, s Source, address string, into any) (next string, err error) {
	var body []byte
	var r *http.Response
	err = p.again(ctx, func() error {
		if r, err = p.do(ctx, http.MethodGet, address, nil, true); err != nil { //nolint:bodyclose // it is closed below
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return p.refused(s, r)
		}
		if body, err = io.ReadAll(io.LimitReader(r.Body, maxAnswer+1)); err != nil {
			return err
		}
		if len(body) > maxAnswer {
			return fmt.Errorf("the hub's answer is longer than %d bytes", maxAnswer)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return "", fmt.Errorf("%s does not answer like the Hugging Face hub: is HF_ENDPOINT right? %w", p.Endpoint, err)
	}
	for _, link := range strings.Split(r.Header.Get("Link"), ",") {
		target, rel, _ := strings.Cut(strings.TrimSpace(link), ">")
		if strings.Contains(rel, `rel="next"`) {
			u, err := r.Request.URL.Parse(strings.TrimPrefix(target, "<"))
			if err != nil || !p.ours(u) {
				return "", errors.New("the hub's next page is on another server")
			}
			return u.String(), nil
		}
	}
	return "", nil
}

// refused explains an answer of 400 and above.
func (p *Puller) refused(s Source, r *http.Response) error {
	code := r.Header.Get("X-Error-Code")
	page := p.Endpoint + "/" + s.Repo
	token := "make a token at " + p.Endpoint + "/settings/tokens and put it into HF_TOKEN"
	if p.Token != "" {
		token = "check that the token in HF_TOKEN belongs to that account and may read gated repositories"
	}
	switch {
	case s.Repo == "":
		return statusError(s.URL, r)
	case code == "GatedRepo", r.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%s is gated: you must accept its licence. Sign in, accept it on %s, %s, then pull again", s.Repo, page, token)
	case r.StatusCode == http.StatusUnauthorized && p.Token != "" && code == "":
		return fmt.Errorf("%s: the hub rejects the token in HF_TOKEN: make a new one at %s/settings/tokens", s.Repo, p.Endpoint)
	case code == "RevisionNotFound":
		return fmt.Errorf("%s has no revision %s", s.Repo, cmp.Or(s.Rev, "main"))
	case code == "EntryNotFound":
		return fmt.Errorf("%s has no file %s", s.Repo, s.File)
	case r.StatusCode == http.StatusUnauthorized, code == "RepoNotFound":
		return fmt.Errorf("%s does not exist or is private: see %s; if it is private, %s", s.Repo, page, token)
	case r.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %s: see %s", errNotThere, s, page)
	}
	return statusError(s.String(), r)
}

var errNotThere = errors.New("it does not exist")

func statusError(what string, r *http.Response) error {
	err := fmt.Errorf("%s: the server answers %s", printableURL(what), r.Status)
	switch {
	case r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: it needs a login or a key, which some sites take in the address", err)
	case r.StatusCode == http.StatusTooManyRequests || r.StatusCode >= 500:
		return &temporary{err: err, after: retryAfter(r)}
	}
	return err
}

func isSHA256(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }
