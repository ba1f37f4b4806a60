// Package pull fetches models into the user's models folder: from the Hugging Face hub, from a URL, or by a short name.
// Interrupted downloads are resumed, the result is checked against the expected hash, and a file gets its name once complete.
//
// Servers are not trusted: what they call a file never leads out of the folder, and what they say of its length is not
// believed.
package pull

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"darkroom/similar"
)

// Source is where a model is fetched from.
type Source struct {
	Repo string // owner/name on the hub; "" for a URL
	Rev  string // a branch, a tag or a commit; "" is main
	File string // one file of the repository; "" is what a model needs of it
	URL  string // of one file, elsewhere

	Short *Short // the row of the table that named it; nil for others
}

// String is the source as Parse reads it.
func (s Source) String() string {
	if s.Repo == "" {
		return s.URL
	}
	text := "hf:" + s.Repo
	if s.Rev != "" {
		text += "@" + s.Rev
	}
	if s.File != "" {
		text += ":" + s.File
	}
	return text
}

var (
	repoName = regexp.MustCompile(`^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$`)
	revision = regexp.MustCompile(`^[A-Za-z0-9][\w./-]{0,199}$`)
)

// Parse reads hf:owner/repo[@rev][:file], a URL, or a short name. Pages of endpoint, the hub's address, are repositories and
// their files.
func Parse(text, endpoint string) (Source, error) {
	if rest, ok := strings.CutPrefix(text, "hf:"); ok {
		return parseRepo(strings.TrimPrefix(rest, "//"))
	}
	if strings.Contains(text, "://") {
		return parseURL(text, endpoint)
	}
	if s, ok := Named(text); ok {
		from, err := Parse(s.From, endpoint)
		from.Short = &s
		return from, err
	}
	if repoName.MatchString(text) {
		return Source{}, fmt.Errorf("%q is not a short name: did you mean hf:%s?", text, text)
	}
	var names []string
	for _, s := range Shorts() {
		names = append(names, s.Name)
	}
	return Source{}, fmt.Errorf("%.100q: it must be hf:OWNER/REPO[@REVISION][:FILE], a URL or one of %s%s", text, strings.Join(names, ", "), similar.Hint(text, names))
}

func parseRepo(text string) (Source, error) {
	var s Source
	text, s.File, _ = strings.Cut(text, ":")
	s.Repo, s.Rev, _ = strings.Cut(text, "@")
	return s, s.check()
}

func (s Source) check() error {
	switch {
	case !repoName.MatchString(s.Repo):
		return fmt.Errorf("hf:%.100s: a repository is OWNER/NAME", s.Repo)
	case s.Rev != "" && (!revision.MatchString(s.Rev) || strings.Contains(s.Rev, "..")):
		return fmt.Errorf("hf:%s@%.100s: a revision is a branch, a tag or a commit", s.Repo, s.Rev)
	case s.File != "" && !safe(s.File):
		return fmt.Errorf("hf:%s: %.100q is not the path of a file in a repository", s.Repo, s.File)
	}
	return nil
}

func parseURL(text, endpoint string) (Source, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return Source{}, fmt.Errorf("%.200q is not a URL", text)
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return Source{}, fmt.Errorf("%.200q: only https and http are fetched", text)
	}
	hub, err := url.Parse(endpoint)
	if err != nil || u.Host != hub.Host && u.Host != "huggingface.co" {
		return Source{URL: text}, nil
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) == 2 {
		s := Source{Repo: parts[0] + "/" + parts[1]}
		return s, s.check()
	}
	if len(parts) > 4 && (parts[2] == "resolve" || parts[2] == "blob") {
		s := Source{Repo: parts[0] + "/" + parts[1], Rev: parts[3], File: path.Join(parts[4:]...)}
		return s, s.check()
	}
	return Source{URL: text}, nil
}

// Short is a model that has a short name.
type Short struct {
	Name    string
	From    string // as Parse reads it
	About   string
	Licence string
	// Size and SHA256 are of a single file outside the hub, which tells both of its own.
	Size   int64
	SHA256 string
}

// Named is the short name that a text is.
func Named(text string) (Short, bool) {
	for _, s := range Shorts() {
		if strings.EqualFold(s.Name, text) {
			return s, true
		}
	}
	return Short{}, false
}

// Shorts is the table of short names.
func Shorts() []Short {
	return []Short{
		{Name: "sd15", From: "hf:stable-diffusion-v1-5/stable-diffusion-v1-5", About: "Stable Diffusion 1.5, 512×512", Licence: "CreativeML Open RAIL-M"},
		{Name: "sdxl", From: "hf:stabilityai/stable-diffusion-xl-base-1.0", About: "SDXL base, 1024×1024", Licence: "CreativeML Open RAIL++-M"},
		{Name: "sdxl-refiner", From: "hf:stabilityai/stable-diffusion-xl-refiner-1.0", About: "SDXL's refiner, for --refiner", Licence: "CreativeML Open RAIL++-M"},
		{Name: "sdxl-turbo", From: "hf:stabilityai/sdxl-turbo", About: "SDXL in 1 to 4 steps, 512×512", Licence: "Stability AI Non-Commercial Research Community"},
		{Name: "sd-turbo", From: "hf:stabilityai/sd-turbo", About: "Stable Diffusion 2.1 in 1 to 4 steps, 512×512", Licence: "Stability AI Non-Commercial Research Community"},
		{Name: "z-image-turbo", From: "hf:Tongyi-MAI/Z-Image-Turbo", About: "Z-Image in 8 steps, 1024×1024", Licence: "Apache-2.0"},
		{Name: "flux1-schnell", From: "hf:black-forest-labs/FLUX.1-schnell", About: "FLUX.1 in 4 steps, 1024×1024", Licence: "Apache-2.0"},
		{Name: "flux1-dev", From: "hf:black-forest-labs/FLUX.1-dev", About: "FLUX.1, 1024×1024", Licence: "FLUX.1 [dev] Non-Commercial"},
		{Name: "flux1-kontext", From: "hf:black-forest-labs/FLUX.1-Kontext-dev", About: "FLUX.1 that changes a picture: --reference", Licence: "FLUX.1 [dev] Non-Commercial"},
		{Name: "flux1-fill", From: "hf:black-forest-labs/FLUX.1-Fill-dev", About: "FLUX.1 that paints under a mask: --init and --mask", Licence: "FLUX.1 [dev] Non-Commercial"},
		{Name: "flux1-canny", From: "hf:black-forest-labs/FLUX.1-Canny-dev", About: "FLUX.1 that follows edges: --control", Licence: "FLUX.1 [dev] Non-Commercial"},
		{Name: "flux1-depth", From: "hf:black-forest-labs/FLUX.1-Depth-dev", About: "FLUX.1 that follows a depth map: --control", Licence: "FLUX.1 [dev] Non-Commercial"},
		{Name: "sd35-medium", From: "hf:stabilityai/stable-diffusion-3.5-medium", About: "Stable Diffusion 3.5 medium, 1024×1024", Licence: "Stability AI Community"},
		{Name: "flux2-klein", From: "hf:black-forest-labs/FLUX.2-klein-4B", About: "FLUX.2 klein in 4 steps, 1024×1024, also edits", Licence: "Apache-2.0"},
		{Name: "taesd", From: "hf:madebyollin/taesd", About: "small autoencoder for SD 1 and 2, for --vae and --preview", Licence: "MIT"},
		{Name: "taesdxl", From: "hf:madebyollin/taesdxl", About: "small autoencoder for SDXL", Licence: "MIT"},
		{Name: "clip", From: "hf:openai/clip-vit-large-patch14", About: "CLIP, the judge of darkroom compare", Licence: "MIT"},
		{Name: "realesrgan-x4", From: "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.0/RealESRGAN_x4plus.pth", About: "upscaler ×4, for darkroom upscale", Licence: "BSD-3-Clause",
			Size: 67_040_989, SHA256: "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1"},
	}
}
