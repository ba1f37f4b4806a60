package library

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"darkroom/machine"
	"darkroom/similar"
)

// Item is something in the user's folders of models that can be removed.
type Item struct {
	Kind  Kind
	Name  string
	Path  string
	Bytes int64 // on disk

	root string // the folder of models that it is in
}

// Items are all models and parts of that name, of whichever kind; KIND:NAME means one kind alone.
func Items(name string) ([]Item, error) {
	kind, rest, given := strings.Cut(name, ":")
	if !given {
		kind, rest = "", name
	}
	var found []Item
	var names []string
	look := func(k Kind, paths []string) error {
		if kind != "" && k.Name != kind {
			return nil
		}
		for _, path := range paths {
			names = append(names, NameOf(path))
			if NameOf(path) != rest && filepath.Base(path) != rest {
				continue
			}
			item := Item{Kind: k, Name: NameOf(path), Path: path}
			if err := item.measure(); err != nil {
				return err
			}
			found = append(found, item)
		}
		return nil
	}
	if err := look(models, Installed()); err != nil {
		return nil, err
	}
	for _, k := range Kinds() {
		if err := look(k, Parts(k)); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("there is no model of the name %.100q in %s%s", name, strings.Join(machine.ModelFolders(), ", "), similar.Hint(rest, names))
	}
	return found, nil
}

// measure finds the folder that an item is in, and its size. A link is not followed.
func (x *Item) measure() error {
	for _, root := range machine.ModelFolders() {
		rel, err := filepath.Rel(root, x.Path)
		if err == nil && rel != "." && filepath.IsLocal(rel) {
			x.root = root
			break
		}
	}
	if x.root == "" {
		return fmt.Errorf("%s is not in a folder of models", x.Path)
	}
	return filepath.WalkDir(x.Path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			x.Bytes += info.Size()
		}
		return err
	})
}

// Remove removes an item from the disk. Nothing outside of its folder of models is touched: of a link the link is removed.
func (x *Item) Remove() error {
	root, err := os.OpenRoot(x.root)
	if err != nil {
		return err
	}
	defer root.Close()
	rel, err := filepath.Rel(x.root, x.Path)
	if err != nil {
		return err
	}
	if x.elsewhere() {
		return fmt.Errorf("%s is behind a link that leads out of %s, and darkroom removes nothing there: remove it yourself", x.Path, x.root)
	}
	if err := root.RemoveAll(rel); err != nil {
		return fmt.Errorf("removing %s: %w", x.Path, err)
	}
	return nil
}

// elsewhere says whether a link on the way to the item leads out of the folder of models.
func (x *Item) elsewhere() bool {
	root, err := filepath.EvalSymlinks(x.root)
	parent, err2 := filepath.EvalSymlinks(filepath.Dir(x.Path))
	if err != nil || err2 != nil {
		return false
	}
	rel, err := filepath.Rel(root, parent)
	return err != nil || !filepath.IsLocal(rel)
}
