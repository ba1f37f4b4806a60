package compare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// answer puts into plain words what the table shows, and what it cannot show.
func (r *Report) answer(prompts int, noticeable float64) {
	r.Answer, r.Buys, r.Notes, r.Picks = nil, nil, nil, nil
	defer r.notes(prompts)
	m, ok := measure(r.RankBy)
	if !ok {
		r.Answer = []string{"Nothing decides which setting is better: none has a converged solution to be measured against, and there is no judge. Only times were measured."}
		return
	}
	if noticeable == 0 {
		noticeable = m.Noticeable
	}
	problems := r.problems()
	if len(problems) == 0 {
		r.Answer = []string{fmt.Sprintf("No setting could be ranked by %s: see the notes.", m.Title)}
		return
	}
	if len(problems) > 1 {
		r.Answer = append(r.Answer, fmt.Sprintf("Each of %s has a converged solution of its own, and nearness to it cannot say which of them makes the better pictures: that takes a judge, or your eyes. Within each:", list(problems, 6)))
	}
	for _, problem := range problems {
		ranked := r.ranked(problem)
		best := slices.MaxFunc(ranked, func(a, b SettingResult) int {
			return cmp.Compare(float64(m.Better)*a.Values[m.Key].Mean, float64(m.Better)*b.Values[m.Key].Mean)
		})
		pick := fastestGoodEnough(ranked, best, noticeable)
		if pick.ID == best.ID && pick.ID != ranked[0].ID && !slices.ContainsFunc(ranked, func(s SettingResult) bool { return s.Rank > 1 }) {
			r.Answer = append(r.Answer, r.undecided(m, ranked, best))
			r.Buys = append(r.Buys, r.buys(m, ranked)...)
			continue
		}
		r.Picks = append(r.Picks, pick.ID)
		texts := []string{advice(m, ranked, pick, best, noticeable), tie(m, ranked, best)}
		if len(problems) > 1 {
			texts = []string{strings.Join(texts, " ")}
		}
		r.Answer = append(r.Answer, texts...)
		r.Buys = append(r.Buys, r.buys(m, ranked)...)
	}
}

// problems are those of which a setting was ranked, in the order of the table; one, "", where all are ranked together.
func (r *Report) problems() []string {
	var names []string
	for _, s := range r.Settings {
		if name := r.rankedIn(s); s.Rank > 0 && !s.OverBudget && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// rankedIn is the problem within which a setting is ranked.
func (r *Report) rankedIn(s SettingResult) string {
	if r.Apart {
		return s.Problem
	}
	return ""
}

// ranked are the settings of a problem that could be ranked and are within the budget, fastest first.
func (r *Report) ranked(problem string) []SettingResult {
	var out []SettingResult
	for _, s := range r.Settings {
		if s.Rank > 0 && !s.OverBudget && r.rankedIn(s) == problem {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b SettingResult) int { return cmp.Compare(a.Seconds.Median, b.Seconds.Median) })
	return out
}

// fastestGoodEnough is the fastest setting whose loss against the best is known to be below what is noticeable.
func fastestGoodEnough(ranked []SettingResult, best SettingResult, noticeable float64) SettingResult {
	for _, s := range ranked { // fastest first
		if s.Behind != nil && s.Behind.High != nil && *s.Behind.High <= noticeable {
			return s
		}
	}
	return best
}

// advice says which setting to use, and why.
func advice(m Measure, ranked []SettingResult, pick, best SettingResult, noticeable float64) string {
	text := fmt.Sprintf("Use %s: %s a picture, %s %s.", pick.Name, seconds(pick.Seconds.Median), m.Title, value(m, pick.Values[m.Key]))
	switch {
	case pick.ID == best.ID && len(ranked) == 1:
		return text + " It is the only setting that could be ranked."
	case pick.ID == best.ID:
		return text + fmt.Sprintf(" It has the best mean, and no faster setting is shown to be within %s of it.", amount(m, noticeable))
	}
	return text + fmt.Sprintf(" It is the fastest whose loss is shown to be too small to notice (at most %s, where %s is the limit): the best mean, %s, is that of %s at %s a picture.",
		amount(m, *pick.Behind.High), amount(m, noticeable), amount(m, best.Values[m.Key].Mean), best.Name, seconds(best.Seconds.Median))
}

// undecided is the answer where nothing is shown of anything: the best mean may be chance, and that a faster setting is as good is
// not shown either.
func (r *Report) undecided(m Measure, ranked []SettingResult, best SettingResult) string {
	of := ""
	if r.Apart {
		of = " of " + best.Problem
	}
	return fmt.Sprintf("These pictures decide nothing: no difference in %s is shown between any of the %d settings%s, nor that any is as good as the best. The best mean, %s, is that of %s at %s a picture; the fastest is %s: %s a picture, %s. More prompts or seeds tell more.",
		m.Title, len(ranked), of, value(m, best.Values[m.Key]), best.Name, seconds(best.Seconds.Median), ranked[0].Name, seconds(ranked[0].Seconds.Median), value(m, ranked[0].Values[m.Key]))
}

// tie says between how many settings no difference is shown.
func tie(m Measure, ranked []SettingResult, best SettingResult) string {
	var equal []string
	for _, s := range ranked {
		if s.Rank == 1 && s.ID != best.ID {
			equal = append(equal, s.Name)
		}
	}
	switch n := len(equal); {
	case len(ranked) == 1:
		return "One setting makes no comparison."
	case n == len(ranked)-1:
		return fmt.Sprintf("No difference in %s is shown between any of the %d settings: more prompts or seeds may show one, or there is none worth the time.", m.Title, len(ranked))
	case n == 0:
		return fmt.Sprintf("In %s, %s is shown to be better than each of the others.", m.Title, best.Name)
	default:
		return fmt.Sprintf("No difference in %s is shown between the best, %s, and %d other%s: %s.", m.Title, best.Name, n, plural(n), list(equal, 6))
	}
}

// buys walks along the Pareto front and says what each step up costs and gives.
func (r *Report) buys(m Measure, ranked []SettingResult) []string {
	var front []SettingResult
	for _, s := range ranked {
		if s.Pareto {
			front = append(front, s)
		}
	}
	const most = 6
	var out []string
	for i := 1; i < len(front) && i <= most; i++ {
		a, b := front[i-1], front[i]
		time, gain := b.Seconds.Median-a.Seconds.Median, (b.Values[m.Key].Mean-a.Values[m.Key].Mean)*float64(m.Better)
		shown := ""
		if !r.better[[2]string{b.ID, a.ID}] {
			shown = ", which is not shown to be more than chance"
		}
		out = append(out, fmt.Sprintf("From %s (%s) to %s (%s): %s more buys %s of %s%s.",
			a.Name, seconds(a.Seconds.Median), b.Name, seconds(b.Seconds.Median), seconds(time), amount(m, gain), m.Title, shown))
	}
	if len(front) > most+1 {
		out = append(out, fmt.Sprintf("The front has %d more such step%s: see the table.", len(front)-most-1, plural(len(front)-most-1)))
	}
	return out
}

// notes say what limits the answer.
func (r *Report) notes(prompts int) {
	add := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	pictures := prompts * r.Grid.Seeds
	add("%d prompt%s × %d seed%s: %d picture%s a setting. All settings drew the same prompts from the same noise; differences are taken picture by picture, intervals hold 95 %% (bootstrap), and ranks hold for all settings that are ranked together.",
		prompts, plural(prompts), r.Grid.Seeds, plural(r.Grid.Seeds), pictures, plural(pictures))
	if prompts < 6 {
		add("With fewer than 6 prompts, what is shown holds for these prompts only.")
	}
	if pictures == 1 {
		add("One picture a setting shows no difference at all: there is nothing to tell chance from.")
	}
	if r.Judge == "" {
		add("No judge: nothing here says whether the pictures show what their prompts ask for, nor how different the seeds' pictures are. Give --judge with a CLIP model's folder.")
	}
	r.referenceNotes(add)
	if m, ok := measure(r.RankBy); ok && m.needs == needsReference && len(r.References) > 1 {
		add("Each guidance scale, type and model has a converged solution of its own. Closeness to it says how well a setting solves, not which of these values is the better one.")
	}
	var noisy, flagged []string
	for _, s := range r.Settings {
		if !s.Comparable && len(r.References) > 0 {
			noisy = append(noisy, s.GroupName)
		}
		if len(s.Flags) > 0 {
			flagged = append(flagged, fmt.Sprintf("%s (%s)", s.Name, strings.Join(s.Flags, ", ")))
		}
	}
	slices.Sort(noisy)
	if noisy = slices.Compact(noisy); len(noisy) > 0 {
		add("These draw noise on the way or follow another path, so their pictures have another limit and no distance to the converged solution: %s.", list(noisy, 8))
	}
	if len(flagged) > 0 {
		add("Pictures that look unlike the others': %s.", list(flagged, 6))
	}
}

func (r *Report) referenceNotes(add func(string, ...any)) {
	if len(r.References) == 0 {
		add("No converged solution was made (--reference-steps 0): nothing says how exactly a setting solves.")
	}
	for _, ref := range r.References {
		if ref.Relative == nil || ref.SSIM == nil {
			continue
		}
		add("The converged solution is %s. Doubling its steps moves the latents by %.2g %% and leaves an SSIM of %.4f (median of %d): nearer than that to it means nothing.",
			ref.Name, 100**ref.Relative, *ref.SSIM, ref.Checked)
		for _, s := range r.Settings {
			if v, ok := s.Values["rmse"]; ok && s.Setting.problemID() == ref.Problem.ID() && v.Mean < 1.5**ref.RMSE {
				add("%s is as near to it as it is converged: raise --reference-steps to tell such settings apart.", s.Name)
				break
			}
		}
	}
}

func seconds(v float64) string {
	switch {
	case v < 0.1:
		return fmt.Sprintf("%.2g ms", 1000*v)
	case v < 1:
		return fmt.Sprintf("%.0f ms", 1000*v)
	case v < 10:
		return fmt.Sprintf("%.2f s", v)
	}
	return fmt.Sprintf("%.1f s", v)
}

// amount is a value of a measure with its unit.
func amount(m Measure, v float64) string {
	text := fmt.Sprintf("%.3g", v)
	if m.Unit != "" {
		text += " " + m.Unit
	}
	return text
}

// value is an estimate with its interval.
func value(m Measure, e Estimate) string {
	if e.Low == nil || e.High == nil {
		return amount(m, e.Mean)
	}
	return fmt.Sprintf("%s [%.3g, %.3g]", amount(m, e.Mean), *e.Low, *e.High)
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// list joins names, which have commas of their own.
func list(names []string, most int) string {
	if len(names) > most {
		return strings.Join(names[:most], "; ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, "; ")
}
