package clip

import (
	"container/heap"
	"fmt"
)

// endOfWord marks the last symbol of a word in the vocabulary: "app" + "le</w>".
const endOfWord = "</w>"

// byteSymbols gives each byte the printable character that stands for it in the vocabulary (GPT-2's
// encoder): itself where Latin-1 prints it, else the next one from U+0100 on.
func byteSymbols() (symbols [256]rune) {
	next := rune(256)
	for b := range symbols {
		r := rune(b)
		if ('!' <= r && r <= '~') || ('¡' <= r && r <= '¬') || ('®' <= r && r <= 'ÿ') {
			symbols[b] = r
			continue
		}
		symbols[b] = next
		next++
	}
	return symbols
}

// bpe is byte pair encoding (Sennrich et al. 2016) over the bytes of a word.
type bpe struct {
	inside, last [256]int32 // id of each byte's symbol within a word and at its end
	merges       map[pair]merge
}

type pair struct{ left, right int32 }

// merge joins a pair to the token id; the lowest rank goes first.
type merge struct{ rank, id int32 }

// newBPE checks that every merge joins tokens of the vocabulary to a token of the vocabulary. Bytes
// that the vocabulary lacks become unknown; an unknown of -1 makes that an error. Without an ending of words, such bytes
// have no token, and are left out.
func newBPE(vocab map[string]int32, merges [][2]string, unknown int32, ending string) (*bpe, error) {
	m := &bpe{merges: make(map[pair]merge, len(merges))}
	symbol := func(s string) (int32, error) {
		id, ok := vocab[s]
		if !ok && ending == "" {
			return none, nil
		}
		if !ok && unknown < 0 {
			return 0, fmt.Errorf("the vocabulary has neither %q nor the unknown token", s)
		}
		if !ok {
			id = unknown
		}
		return id, nil
	}
	for b, r := range byteSymbols() {
		var err error
		if m.inside[b], err = symbol(string(r)); err != nil {
			return nil, err
		}
		if m.last[b], err = symbol(string(r) + ending); err != nil {
			return nil, err
		}
	}
	for rank, parts := range merges {
		var ids [3]int32
		for i, s := range [3]string{parts[0], parts[1], parts[0] + parts[1]} {
			id, ok := vocab[s]
			if !ok {
				return nil, fmt.Errorf("merge %d (%q %q): %q is not in the vocabulary", rank+1, parts[0], parts[1], s)
			}
			ids[i] = id
		}
		m.merges[pair{ids[0], ids[1]}] = merge{int32(rank), ids[2]}
	}
	return m, nil
}

// none is the id of a byte that is left out.
const none = -1

// symbol is a node of a word's doubly linked list; gone once it was merged into the one before it.
type symbol struct {
	id         int32
	prev, next int
	gone       bool
}

// encode appends the ids of one word, len(word) > 0: O(n log n) for n bytes.
func (m *bpe) encode(ids []int32, word string) []int32 {
	symbols := make([]symbol, 0, len(word))
	for i := range len(word) {
		id := m.inside[word[i]]
		if i == len(word)-1 {
			id = m.last[word[i]]
		}
		if id != none {
			symbols = append(symbols, symbol{id: id, prev: len(symbols) - 1, next: len(symbols) + 1})
		}
	}
	if len(symbols) == 0 {
		return ids
	}
	end := len(symbols) - 1
	symbols[end].next = -1

	var queue mergeQueue
	push := func(left, right int) {
		if left >= 0 && right >= 0 {
			if found, ok := m.merges[pair{symbols[left].id, symbols[right].id}]; ok {
				heap.Push(&queue, candidate{found, left})
			}
		}
	}
	for i := range end {
		push(i, i+1)
	}
	for len(queue) > 0 {
		c := heap.Pop(&queue).(candidate)
		left := &symbols[c.at]
		if left.gone || left.next < 0 {
			continue
		}
		right := &symbols[left.next]
		if found, ok := m.merges[pair{left.id, right.id}]; !ok || found.id != c.id {
			continue // one of the two has been merged since
		}
		left.id, left.next, right.gone = c.id, right.next, true
		if left.next >= 0 {
			symbols[left.next].prev = c.at
		}
		push(left.prev, c.at)
		push(c.at, left.next)
	}
	for i := 0; i >= 0; i = symbols[i].next {
		ids = append(ids, symbols[i].id)
	}
	return ids
}

// candidate is a merge that was possible at symbol at when it was queued.
type candidate struct {
	merge
	at int
}

// mergeQueue is a heap of candidates: the lowest rank first, then the leftmost.
type mergeQueue []candidate

func (q mergeQueue) Len() int { return len(q) }
func (q mergeQueue) Less(i, j int) bool {
	if q[i].rank != q[j].rank {
		return q[i].rank < q[j].rank
	}
	return q[i].at < q[j].at
}
func (q mergeQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *mergeQueue) Push(x any)   { *q = append(*q, x.(candidate)) }
func (q *mergeQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
