package recipe

import "strings"

// key is what the setting is called in a parameters text, where it has no name of another program's: "Made up".
func (s *Setting) key() string {
	name := strings.ReplaceAll(s.Name, "-", " ")
	return strings.ToUpper(name[:1]) + name[1:]
}

// extraFields are the settings in Extra as fields of a parameters text.
func (r Recipe) extraFields() (fields []Field) {
	for i := range rows.all {
		if s := &rows.all[i]; r.Extra[s.Name] != nil {
			fields = append(fields, Field{s.key(), s.Format(r.Extra[s.Name])})
		}
	}
	return fields
}

// takeField reads what extraFields wrote; false if the field is none of these.
func (r *Recipe) takeField(f Field) bool {
	for i := range rows.all {
		s := &rows.all[i]
		if s.Recipe != nil || !s.InRecipe() || s.key() != f.Key {
			continue
		}
		v, err := s.Parse(f.Value)
		if err == nil {
			s.intoRecipe(r, v)
		}
		return err == nil
	}
	return false
}
