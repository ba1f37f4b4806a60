package t5

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// piece is an entry of the vocabulary, with the logarithm of its probability.
type piece struct {
	text  string
	score float64
}

// unigram splits words into the pieces that are likeliest together (Kudo 2018, https://arxiv.org/abs/1804.10959).
type unigram struct {
	pieces  []piece
	unknown int32
	ids     map[string]int32
	longest int     // bytes of a piece
	penalty float64 // score of a character that no piece has
}

// unknownPenalty is how much less likely than the least likely piece a character is that the vocabulary lacks.
const unknownPenalty = 10

// index checks the pieces and makes them ready to be looked for.
func (u *unigram) index() error {
	if len(u.pieces) == 0 {
		return fmt.Errorf("the vocabulary is empty")
	}
	if int(u.unknown) >= len(u.pieces) || u.unknown < 0 {
		return fmt.Errorf("the vocabulary of %d pieces has none of number %d, which is to stand for unknown ones", len(u.pieces), u.unknown)
	}
	u.ids = make(map[string]int32, len(u.pieces))
	least := math.Inf(1)
	for i, p := range u.pieces {
		if math.IsNaN(p.score) || math.IsInf(p.score, 0) {
			return fmt.Errorf("the score of piece %d, %q, is no number", i, p.text)
		}
		u.ids[p.text] = int32(i)
		u.longest = max(u.longest, len(p.text))
		least = min(least, p.score)
	}
	u.penalty = least - unknownPenalty
	return nil
}

// encode appends the ids of a word. Of equally likely ways to split it, the first one found counts, from its start on, as in the
// tokenizers library; characters in a row that no piece has are one unknown token.
func (u *unigram) encode(ids []int32, word string) []int32 {
	type node struct {
		score  float64
		start  int
		id     int32
		linked bool
	}
	best := make([]node, len(word)+1) // by the place where the last piece ends
	for start := 0; start < len(word); {
		here := best[start].score
		_, size := utf8.DecodeRuneInString(word[start:])
		link := func(end int, id int32, score float64) {
			if n := &best[end]; !n.linked || here+score > n.score {
				*n = node{here + score, start, id, true}
			}
		}
		single := false
		for end := start + 1; end <= min(start+u.longest, len(word)); end++ {
			if id, ok := u.ids[word[start:end]]; ok {
				link(end, id, u.pieces[id].score)
				single = single || end == start+size
			}
		}
		if !single {
			link(start+size, u.unknown, u.penalty)
		}
		start += size
	}
	first := len(ids)
	emit := func(from, to int) {
		id, ok := u.ids[word[from:to]]
		if !ok {
			id = u.unknown
		}
		ids = append(ids, id)
	}
	unknownTo := -1 // where the run of unknown characters ends
	for end := len(word); end > 0; end = best[end].start {
		n := best[end]
		if n.id == u.unknown {
			unknownTo = max(unknownTo, end)
			continue
		}
		if unknownTo >= 0 {
			emit(end, unknownTo)
			unknownTo = -1
		}
		emit(n.start, end)
	}
	if unknownTo >= 0 {
		emit(0, unknownTo)
	}
	for i, j := first, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
	return ids
}
