package pull

import (
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"unicode"
)

// safe reports whether a path that a server sends is one below a folder, on every system: no step up, no root, no drive, no
// hidden name, nothing that steers a terminal.
func safe(name string) bool {
	if !fs.ValidPath(name) || len(name) > 512 || !filepath.IsLocal(filepath.FromSlash(name)) {
		return false
	}
	for _, part := range strings.Split(name, "/") {
		if part == "." || !safeElement(part) {
			return false
		}
	}
	return true
}

func safeElement(name string) bool {
	if name == "" || len(name) > 200 || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") || reserved(name) {
		return false
	}
	return !strings.ContainsFunc(name, func(c rune) bool {
		return strings.ContainsRune(`\/:*?"<>|`, c) || unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) || c == unicode.ReplacementChar
	})
}

// reserved are the names of devices on Windows, with any ending.
func reserved(name string) bool {
	stem, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch stem {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	return len(stem) == 4 && (strings.HasPrefix(stem, "COM") || strings.HasPrefix(stem, "LPT")) && stem[3] >= '0' && stem[3] <= '9'
}

// nameOf is what a file from a URL is called: what the server says, or the end of the address.
func nameOf(r *http.Response, asked string) (string, error) {
	var names []string
	if _, params, err := mime.ParseMediaType(r.Header.Get("Content-Disposition")); err == nil {
		names = append(names, params["filename"])
	}
	for _, address := range []string{r.Request.URL.String(), asked} {
		if u, err := url.Parse(address); err == nil {
			names = append(names, path.Base(u.Path))
		}
	}
	for _, name := range names {
		name = name[strings.LastIndexAny(name, `/\`)+1:]
		if safeElement(name) && weightEnding(name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s: neither the server nor the address gives the file a name that ends in .safetensors, .gguf, .ckpt, .pt, .pth or .bin: give one with --name", printableURL(asked))
}

func weightEnding(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin", ".sft":
		return true
	}
	return false
}

// printableURL is an address without what may be secret in it: queries carry keys.
func printableURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the address"
	}
	u.User, u.Fragment = nil, ""
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return fmt.Sprintf("%.300s", u.String())
}
