package recipe

import "testing"

func TestParseMotion(t *testing.T) {
	for text, want := range map[string]string{
		"mm":                        "mm:frames=16,fps=8",
		"mm:frames=24":              "mm:frames=24,fps=8",
		`C:\m\mm.ckpt`:              `C:\m\mm.ckpt:frames=16,fps=8`,
		`C:\m\mm.ckpt:fps=12.5`:     `C:\m\mm.ckpt:frames=16,fps=12.5`,
		" a/b:fps=4,betas=model ":   "a/b:frames=16,fps=4,betas=model",
		"mm:betas=linear, frames=2": "mm:frames=2,fps=8,betas=linear",
	} {
		m, err := ParseMotion(text)
		if err != nil || m.String() != want {
			t.Errorf("%q is %v, %v, want %q", text, m, err, want)
			continue
		}
		if again, err := ParseMotion(want); err != nil || *again != *m {
			t.Errorf("%q is read back as %v, %v", want, again, err)
		}
	}
	for _, bad := range []string{"mm:frames=1", "mm:frames=x", "mm:fps=0", "mm:fps=nan", "mm:betas=cosine", "mm:speed=2", ":frames=4", "mm:frames=4096"} {
		if m, err := ParseMotion(bad); err == nil {
			t.Errorf("%q is taken as %v", bad, m)
		}
	}
	if m, err := ParseMotion(""); m != nil || err != nil {
		t.Errorf("nothing is %v, %v", m, err)
	}
}
