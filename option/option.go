// Package option reads settings of the form NAME[:key=value,…], such as apg:eta=0,momentum=-0.5: a method by name, and
// numbers for some of its keys.
package option

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Info describes a method for a list that users read.
type Info struct {
	Name, About, Paper string
	Keys               []Key
}

// Key is a number that a method takes.
type Key struct {
	Name      string
	Default   float64
	Low, High float64 // math.MaxFloat32: no bound
	About     string
}

// Takes says whether the key may have that number.
func (k Key) Takes(v float64) bool { return v >= k.Low && v <= k.High }

func (k Key) bounds() string {
	if k.High == math.MaxFloat32 {
		return fmt.Sprintf(" of at least %v", k.Low)
	}
	return fmt.Sprintf(" from %v to %v", k.Low, k.High)
}

// Key finds a key by its name.
func (i Info) Key(name string) (Key, bool) {
	for _, k := range i.Keys {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

func (i Info) keyNames() string {
	var names []string
	for _, k := range i.Keys {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

// Find finds a method by its name.
func Find(list []Info, name string) (Info, bool) {
	for _, i := range list {
		if i.Name == name {
			return i, true
		}
	}
	return Info{}, false
}

// Choice is a method with the numbers that were given for its keys. It is never changed in place.
type Choice struct {
	Name string
	set  map[string]float64
}

// Parse reads a choice of the list's methods; no name is the list's first. kind names the setting in errors, which say what
// is wrong and what there is.
func Parse(kind, text string, list []Info) (Choice, error) {
	name, rest, has := strings.Cut(strings.TrimSpace(text), ":")
	if strings.ContainsAny(name, "=,") {
		return Choice{}, fmt.Errorf("%s %.80q: keys follow the name and a colon: NAME:key=value,key=value", kind, text)
	}
	name = strings.TrimSuffix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "*")
	if name == "" {
		name = list[0].Name
	}
	info, ok := Find(list, name)
	if !ok {
		var names []string
		for _, i := range list {
			names = append(names, i.Name)
		}
		return Choice{}, fmt.Errorf("no %s is called %.40q: there are %s", kind, name, strings.Join(names, ", "))
	}
	c := Choice{name, map[string]float64{}}
	if !has {
		return c, nil
	}
	for _, pair := range strings.Split(rest, ",") {
		key, number, _ := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		k, ok := info.Key(key)
		if !ok {
			there := "it has none"
			if len(info.Keys) > 0 {
				there = "there are " + info.keyNames()
			}
			return Choice{}, fmt.Errorf("%s %s: no key %.40q: %s", kind, name, key, there)
		}
		if _, twice := c.set[key]; twice {
			return Choice{}, fmt.Errorf("%s %s: %s is given twice", kind, name, key)
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !k.Takes(v) {
			return Choice{}, fmt.Errorf("%s %s: %s = %.40q: want a number%s", kind, name, key, number, k.bounds())
		}
		c.set[key] = v
	}
	return c, nil
}

// String is the form that Parse reads, keys in order.
func (c Choice) String() string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(c.set)) {
		pairs = append(pairs, k+"="+strconv.FormatFloat(c.set[k], 'g', -1, 64))
	}
	if len(pairs) == 0 {
		return c.Name
	}
	return c.Name + ":" + strings.Join(pairs, ",")
}

// Get is the number that was given for a key, and whether one was.
func (c Choice) Get(key string) (v float64, given bool) {
	v, given = c.set[key]
	return v, given
}

// Value is a key's number, or its default in the list. It panics for a key that the method does not have.
func (c Choice) Value(list []Info, key string) float64 {
	if v, ok := c.set[key]; ok {
		return v
	}
	info, _ := Find(list, c.Name)
	k, ok := info.Key(key)
	if !ok {
		panic("option: " + c.Name + " has no key " + key)
	}
	return k.Default
}

// With is the choice with another number for a key.
func (c Choice) With(key string, v float64) Choice {
	set := maps.Clone(c.set)
	if set == nil {
		set = map[string]float64{}
	}
	set[key] = v
	return Choice{c.Name, set}
}

// Without is the choice with a key's default.
func (c Choice) Without(key string) Choice {
	set := maps.Clone(c.set)
	delete(set, key)
	return Choice{c.Name, set}
}

// Split takes a list of choices with commas between them apart: cfg,apg:eta=0,momentum=-0.5,dynamic. The commas within a
// choice are told from those between choices by what follows: key=value without a colon belongs to the one before it.
func Split(list string) (texts []string) {
	for _, part := range strings.Split(list, ",") {
		if strings.Contains(part, "=") && !strings.Contains(part, ":") && len(texts) > 0 {
			texts[len(texts)-1] += "," + part
		} else {
			texts = append(texts, part)
		}
	}
	return texts
}
