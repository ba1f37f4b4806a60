package compare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// answer puts into plain words what the table shows, and what it cannot show.
func (e *evaluation) answer() {
	r := e.report
	r.Answer, r.Buys, r.Notes, r.Picks = nil, nil, nil, nil
	defer e.notes()
	m, ok := measure(r.RankBy)
	switch {
	case !ok:
		r.Answer = []string{"Nothing decides which setting is better: none has a converged solution to be measured against, and there is no judge. Only times were measured."}
		return
	case len(r.verdicts) == 0:
		r.Answer = []string{fmt.Sprintf("No setting could be ranked by %s: see the notes.", m.Title)}
		return
	case len(r.verdicts) > 1:
		var names []string
		for _, v := range r.verdicts {
			names = append(names, r.Settings[v.of[0]].Problem)
		}
		r.Answer = append(r.Answer, fmt.Sprintf("Each of %s has a converged solution of its own. Closeness to it cannot say which of them makes the better pictures: that takes a judge, or your eyes. Within each:", list(names, 6)))
	}
	for _, v := range r.verdicts {
		texts := []string{e.advice(v), v.count()}
		if pick := v.worth(e.slower); v.ranking.Units > 1 {
			r.Picks = append(r.Picks, r.Settings[v.of[pick]].ID)
		}
		if len(r.verdicts) > 1 {
			texts = []string{strings.Join(texts, " ")}
		}
		r.Answer = append(r.Answer, texts...)
		r.Buys = append(r.Buys, e.buys(v)...)
	}
}

// advice says which setting to use, and why.
func (e *evaluation) advice(v verdicts) string {
	m, pick := v.measure, v.worth(e.slower)
	s, best := e.report.Settings[v.of[pick]], e.report.Settings[v.of[v.best]]
	if v.ranking.Units < 2 {
		return fmt.Sprintf("One picture a setting decides nothing: there is nothing to tell chance from. The best %s, %s, is that of %s.", m.Title, amount(m, best.Values[m.Key].Mean), best.Name)
	}
	text := fmt.Sprintf("Use %s: %s a picture, %s %s.", s.Name, seconds(s.Seconds.Median), m.Title, amount(m, s.Values[m.Key].Mean))
	switch {
	case len(v.of) == 1:
		return text + " It is the only setting that could be ranked."
	case pick == v.best:
		return text + fmt.Sprintf(" It has the best mean, and no faster setting is shown to be within %s of it.", amount(m, v.noticed))
	}
	return text + fmt.Sprintf(" It is the fastest that is as good as the best: it loses at most %s, and %s is what one notices. The best, %s, has %s and takes %s.",
		amount(m, v.loss(v.ranking.Loss[pick].High)), amount(m, v.noticed), best.Name, amount(m, best.Values[m.Key].Mean), seconds(best.Seconds.Median))
}

// count says how many settings have which verdict, and what would decide the others.
func (v verdicts) count() string {
	good, worse, open, more := 0, 0, 0, 0
	for k, verdict := range v.verdict {
		switch verdict {
		case AsGood:
			good++
		case Worse:
			worse++
		case Undecided:
			open, more = open+1, max(more, v.more[k])
		}
	}
	if good+worse+open < 2 {
		return "One setting makes no comparison."
	}
	text := fmt.Sprintf("Of %d settings %d %s as good as the best, %d %s worse, %d %s undecided", good+worse+open, good, areIs(good), worse, areIs(worse), open, areIs(open))
	if more > 0 {
		text += fmt.Sprintf(": about %d more prompt%s would decide", more, plural(more))
		if open > 1 {
			text += " the last of them"
		}
	}
	return text + "."
}

func areIs(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// buys walks along the front and says what each step up costs and gives.
func (e *evaluation) buys(v verdicts) []string {
	var front []int
	for k, i := range v.of {
		if e.report.Settings[i].Pareto {
			front = append(front, k)
		}
	}
	slices.SortStableFunc(front, func(a, b int) int { return cmp.Compare(v.ranking.Mean[a].Mean, v.ranking.Mean[b].Mean) })
	const most = 6
	var out []string
	for i := 1; i < len(front) && i <= most; i++ {
		a, b := e.report.Settings[v.of[front[i-1]]], e.report.Settings[v.of[front[i]]]
		gain := v.measure.sign() * (b.Values[v.measure.Key].Mean - a.Values[v.measure.Key].Mean)
		chance := ""
		if !v.ranking.Better(front[i], front[i-1]) {
			chance = "; that may be chance"
		}
		out = append(out, fmt.Sprintf("%s → %s: %g to %g calls (%s to %s), %s %s to %s (%s better)%s.", a.Name, b.Name, a.Calls, b.Calls,
			seconds(a.Seconds.Median), seconds(b.Seconds.Median), v.measure.Title, amount(v.measure, a.Values[v.measure.Key].Mean), amount(v.measure, b.Values[v.measure.Key].Mean), amount(v.measure, gain), chance))
	}
	if left := len(front) - most - 1; left > 0 {
		out = append(out, fmt.Sprintf("The front has %d more such step%s: see the table.", left, plural(left)))
	}
	return out
}

// notes say what limits the answer.
func (e *evaluation) notes() {
	r, prompts := e.report, len(e.Grid.Prompts)
	add := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	pictures := prompts * r.Grid.Seeds
	add("%d prompt%s × %d seed%s: %d picture%s a setting. All settings drew the same prompts from the same noise. Differences are taken picture by picture; their intervals hold 95 %% (bootstrap) for all settings together.",
		prompts, plural(prompts), r.Grid.Seeds, plural(r.Grid.Seeds), pictures, plural(pictures))
	if prompts < 6 {
		add("With fewer than 6 prompts, what is shown holds for these prompts only.")
	}
	if pictures == 1 {
		add("One picture a setting shows no difference at all: there is nothing to tell chance from.")
	}
	if m, ok := measure(r.RankBy); ok && m.scale != asItIs {
		add("%s is averaged and compared as a ratio of distances, on which good settings spread as much as bad ones; the means are brought back from there.", m.Title)
	}
	if few, many, prefers := e.judgePrefersFewer(); prefers {
		text := fmt.Sprintf("With most solvers the judge finds more of the prompt in pictures of the fewest steps (%.3g) than in those of the most (%.3g), so it cannot judge how many steps a picture needs", few, many)
		if r.RankBy == "agreement" {
			add("%s. You asked to rank by it all the same.", text)
		} else {
			add("%s: nothing is ranked by it.", text)
		}
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
		add("These draw noise at each step, or follow another path: they have no converged solution to be compared with, and are not ranked by it: %s.", list(noisy, 8))
	}
	if len(flagged) > 0 {
		add("These make pictures that look unlike the others: %s.", list(flagged, 6))
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
		add("The converged solution is %s. With half the steps it is %.2g %% away in the latents, at an SSIM of %.4f (median of %d), so it is known to about a third of that: smaller distances mean nothing.",
			ref.Name, 100**ref.Relative, *ref.SSIM, ref.Checked)
		for _, s := range r.Settings {
			if v, ok := s.Values["rmse"]; ok && s.Setting.problemID() == ref.Problem.ID() && v.Mean < 0.5**ref.RMSE {
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
