package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits on a pickle. Real checkpoints have about ten thousand values in a few hundred kilobytes.
const (
	maxPickle       = 64 << 20
	maxPickleValues = 4 << 20
)

// A pickle is a program that builds Python objects. The reader below builds plain values and nothing else: a class is
// only its name, and what comes of calling one is decided by pickleHost.
//
//	None True 7 1.5 "text" b"bytes"   nil bool int64 float64 string []byte
//	7**100                            pyLong
//	(1, 2)  [1, 2]  {1: 2}            pyTuple *pyList *pyDict; sets are *pyList
//	torch.FloatStorage                pyClass
//	what a harmless class built       *pyObject
type (
	pyClass  struct{ module, name string }
	pyLong   string // two's complement, little-endian
	pyTuple  []any
	pyList   struct{ items []any }
	pyDict   struct{ pairs []pyPair }
	pyPair   struct{ key, value any }
	pyObject struct {
		class pyClass
		args  pyTuple
		state any
	}
	pyMark struct{}
)

func (c pyClass) String() string { return c.module + "." + c.name }

// get finds the last value of a text key.
func (d *pyDict) get(key string) (any, bool) {
	for i := len(d.pairs) - 1; i >= 0; i-- {
		if k, ok := d.pairs[i].key.(string); ok && k == key {
			return d.pairs[i].value, true
		}
	}
	return nil, false
}

// pickleHost says what names mean. Errors name what is refused.
type pickleHost interface {
	// class reports whether a class may be named at all.
	class(c pyClass) error
	// call is what class(args) gives.
	call(c pyClass, args pyTuple) (any, error)
	// persistent is the object that lies outside the pickle under an id.
	persistent(id any) (any, error)
}

// unpickler runs the opcodes of Python's pickle module, protocols 0 to 5, on a stack of values. Every opcode takes a
// byte or more and makes one value at most, so that time and memory are bounded by the length of the data.
type unpickler struct {
	host   pickleHost
	data   []byte
	at     int
	values int
	stack  []any
	memo   map[uint64]any
}

// unpickle reads the pickle at the start of data and says where it ends.
func unpickle(data []byte, host pickleHost) (value any, end int, err error) {
	u := &unpickler{host: host, data: data[:min(len(data), maxPickle)], memo: map[uint64]any{}}
	for {
		at := u.at
		op, err := u.byte()
		if err == nil && op == '.' {
			value, err = u.pop()
			if err == nil {
				return value, u.at, nil
			}
		}
		if err == nil {
			err = u.step(op)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("pickle, byte %d: %w", at, err)
		}
	}
}

func (u *unpickler) step(op byte) error {
	if value, ok, err := u.literal(op); ok || err != nil {
		if err != nil {
			return err
		}
		return u.push(value)
	}
	switch op {
	case 0x80: // PROTO
		version, err := u.byte()
		if err == nil && version > 5 {
			err = fmt.Errorf("protocol %d is unknown: the newest supported one is 5", version)
		}
		return err
	case 0x95: // FRAME: a hint for buffering
		_, err := u.take(8)
		return err
	case '(':
		return u.push(pyMark{})
	case '0': // POP, of a mark too
		_, err := u.popAny()
		return err
	case '1':
		_, err := u.toMark()
		return err
	case '2':
		top, err := u.top()
		if err != nil {
			return err
		}
		return u.push(top)
	case 'q', 'r', 'p', 0x94, 'h', 'j', 'g':
		return u.remember(op)
	case 't', 'l', 'd', 0x91, 0x85, 0x86, 0x87, 'a', 'e', 's', 'u', 0x90:
		return u.collect(op)
	case 'c', 0x93, 'R', 0x81, 0x92, 'i', 'o', 'b', 'P', 'Q':
		return u.object(op)
	}
	return fmt.Errorf("opcode 0x%02x is not supported", op)
}

// literal reads the opcodes that stand for a value by themselves.
func (u *unpickler) literal(op byte) (value any, ok bool, err error) {
	switch op {
	case 'N':
		return nil, true, nil
	case 0x88:
		return true, true, nil
	case 0x89:
		return false, true, nil
	case ']', 0x8f:
		return &pyList{}, true, nil
	case '}':
		return &pyDict{}, true, nil
	case ')':
		return pyTuple{}, true, nil
	case 'K', 'M', 'J':
		n, err := u.uint(map[byte]int{'K': 1, 'M': 2, 'J': 4}[op])
		if op == 'J' {
			return int64(int32(n)), true, err
		}
		return int64(n), true, err
	case 0x8a, 0x8b:
		b, err := u.counted(map[byte]int{0x8a: 1, 0x8b: 4}[op])
		return integer(b), true, err
	case 'G':
		b, err := u.take(8)
		if err != nil {
			return nil, true, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), true, nil
	case 'X', 0x8c, 0x8d, 'T', 'U': // T and U are Python 2's byte strings, which it used for text
		b, err := u.counted(map[byte]int{'X': 4, 0x8c: 1, 0x8d: 8, 'T': 4, 'U': 1}[op])
		return string(b), true, err
	case 'B', 'C', 0x8e, 0x96:
		b, err := u.counted(map[byte]int{'B': 4, 'C': 1, 0x8e: 8, 0x96: 8}[op])
		return b, true, err
	case 'I', 'L', 'F', 'S', 'V':
		line, err := u.line()
		if err != nil {
			return nil, true, err
		}
		value, err := textLiteral(op, line)
		return value, true, err
	}
	return nil, false, nil
}

// textLiteral reads the values of protocol 0.
func textLiteral(op byte, line string) (any, error) {
	switch op {
	case 'I':
		if line == "00" || line == "01" {
			return line == "01", nil
		}
		return strconv.ParseInt(line, 10, 64)
	case 'L':
		return strconv.ParseInt(strings.TrimSuffix(line, "L"), 10, 64)
	case 'F':
		return strconv.ParseFloat(line, 64)
	case 'S':
		if len(line) < 2 || line[0] != line[len(line)-1] {
			return nil, fmt.Errorf("%q is not a quoted string", line)
		}
		return line[1 : len(line)-1], nil
	}
	return line, nil
}

// integer is a two's complement number, as int64 where it fits.
func integer(b []byte) any {
	if len(b) > 8 {
		return pyLong(b)
	}
	var n uint64
	for i, v := range b {
		n |= uint64(v) << (8 * i)
	}
	if shift := 64 - 8*len(b); len(b) > 0 {
		return int64(n<<shift) >> shift
	}
	return int64(0)
}

// remember handles the memo.
func (u *unpickler) remember(op byte) error {
	var key uint64
	var err error
	switch op {
	case 'q', 'h':
		key, err = u.uint(1)
	case 'r', 'j':
		key, err = u.uint(4)
	case 0x94:
		key = uint64(len(u.memo))
	case 'p', 'g':
		var line string
		if line, err = u.line(); err == nil {
			key, err = strconv.ParseUint(line, 10, 32)
		}
	}
	if err != nil {
		return err
	}
	if op == 'h' || op == 'j' || op == 'g' {
		value, ok := u.memo[key]
		if !ok {
			return fmt.Errorf("memo %d is read before it is written", key)
		}
		return u.push(value)
	}
	u.memo[key], err = u.top()
	return err
}

// collect handles the opcodes that make and fill tuples, lists, dicts and sets.
func (u *unpickler) collect(op byte) error {
	var items []any
	var err error
	switch op {
	case 0x85, 0x86, 0x87:
		items, err = u.popN(int(op) - 0x84)
	case 'a':
		items, err = u.popN(1)
	case 's':
		items, err = u.popN(2)
	default:
		items, err = u.toMark()
	}
	if err != nil {
		return err
	}
	switch op {
	case 't', 0x85, 0x86, 0x87:
		return u.push(pyTuple(items))
	case 'l', 0x91:
		return u.push(&pyList{items})
	case 'd':
		d := &pyDict{}
		if err := d.add(items); err != nil {
			return err
		}
		return u.push(d)
	}
	target, err := u.top()
	if err != nil {
		return err
	}
	switch t := target.(type) {
	case *pyObject: // a subclass of a container; nothing in it is used
		return nil
	case *pyList:
		if op != 's' && op != 'u' {
			t.items = append(t.items, items...)
			return nil
		}
	case *pyDict:
		if op == 's' || op == 'u' {
			return t.add(items)
		}
	}
	return fmt.Errorf("cannot add items to a %s", pyKind(target))
}

// add takes keys and values in turn.
func (d *pyDict) add(items []any) error {
	if len(items)%2 != 0 {
		return fmt.Errorf("a key without a value")
	}
	for i := 0; i < len(items); i += 2 {
		d.pairs = append(d.pairs, pyPair{items[i], items[i+1]})
	}
	return nil
}

// object handles classes, what is built of them, and persistent ids.
func (u *unpickler) object(op byte) error {
	switch op {
	case 'c':
		return u.global()
	case 0x93: // STACK_GLOBAL
		names, err := u.popN(2)
		if err != nil {
			return err
		}
		module, ok1 := names[0].(string)
		name, ok2 := names[1].(string)
		if !ok1 || !ok2 {
			return fmt.Errorf("a class's name is a %s and a %s, not two texts", pyKind(names[0]), pyKind(names[1]))
		}
		return u.pushClass(module, name)
	case 'P':
		line, err := u.line()
		if err != nil {
			return err
		}
		return u.outside(line)
	case 'Q':
		id, err := u.pop()
		if err != nil {
			return err
		}
		return u.outside(id)
	case 'b':
		parts, err := u.popN(1)
		if err != nil {
			return err
		}
		target, err := u.top()
		if o, ok := target.(*pyObject); ok {
			o.state = parts[0]
		}
		return err // the attributes of tensors and dicts mean nothing here
	case 'i', 'o':
		return u.oldInstance(op)
	}
	n := 2
	if op == 0x92 { // NEWOBJ_EX has keywords too
		n = 3
	}
	parts, err := u.popN(n)
	if err != nil {
		return err
	}
	return u.call(parts[0], parts[1])
}

func (u *unpickler) global() error {
	module, err := u.line()
	if err != nil {
		return err
	}
	name, err := u.line()
	if err != nil {
		return err
	}
	return u.pushClass(module, name)
}

// oldInstance is INST and OBJ: a class and its arguments up to the mark.
func (u *unpickler) oldInstance(op byte) error {
	if op == 'i' {
		if err := u.global(); err != nil {
			return err
		}
		class, err := u.pop()
		if err != nil {
			return err
		}
		args, err := u.toMark()
		if err != nil {
			return err
		}
		return u.call(class, pyTuple(args))
	}
	args, err := u.toMark()
	if err == nil && len(args) == 0 {
		err = fmt.Errorf("an object without a class")
	}
	if err != nil {
		return err
	}
	return u.call(args[0], pyTuple(args[1:]))
}

func (u *unpickler) call(class, args any) error {
	c, ok1 := class.(pyClass)
	a, ok2 := args.(pyTuple)
	if !ok1 || !ok2 {
		return fmt.Errorf("a %s is called with a %s", pyKind(class), pyKind(args))
	}
	value, err := u.host.call(c, a)
	if err != nil {
		return err
	}
	return u.push(value)
}

func (u *unpickler) outside(id any) error {
	value, err := u.host.persistent(id)
	if err != nil {
		return err
	}
	return u.push(value)
}

func (u *unpickler) pushClass(module, name string) error {
	c := pyClass{module, name}
	if err := u.host.class(c); err != nil {
		return err
	}
	return u.push(c)
}

func (u *unpickler) push(v any) error {
	if u.values++; u.values > maxPickleValues {
		return fmt.Errorf("more than %d values: no checkpoint has that many", maxPickleValues)
	}
	u.stack = append(u.stack, v)
	return nil
}

var errStack = fmt.Errorf("an opcode finds too few values on the stack: the pickle is damaged")

func (u *unpickler) popAny() (any, error) {
	if len(u.stack) == 0 {
		return nil, errStack
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	return v, nil
}

// pop takes a value that is not a mark.
func (u *unpickler) pop() (any, error) {
	v, err := u.popAny()
	if _, isMark := v.(pyMark); isMark {
		return nil, errStack
	}
	return v, err
}

func (u *unpickler) top() (any, error) {
	v, err := u.pop()
	if err == nil {
		u.stack = append(u.stack, v)
	}
	return v, err
}

// popN takes n values, the deepest first.
func (u *unpickler) popN(n int) ([]any, error) {
	values := make([]any, n)
	for i := n - 1; i >= 0; i-- {
		var err error
		if values[i], err = u.pop(); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// toMark takes the values above the last mark, and the mark.
func (u *unpickler) toMark() ([]any, error) {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if _, ok := u.stack[i].(pyMark); ok {
			values := append([]any(nil), u.stack[i+1:]...)
			u.stack = u.stack[:i]
			return values, nil
		}
	}
	return nil, errStack
}

func (u *unpickler) take(n uint64) ([]byte, error) {
	if n > uint64(len(u.data)-u.at) {
		if len(u.data) == maxPickle {
			return nil, fmt.Errorf("the pickle is longer than %d MiB", maxPickle>>20)
		}
		return nil, fmt.Errorf("the data ends within the pickle: the file is cut off, fetch it again")
	}
	b := u.data[u.at : u.at+int(n) : u.at+int(n)]
	u.at += int(n)
	return b, nil
}

func (u *unpickler) byte() (byte, error) {
	b, err := u.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// uint is a little-endian number of n bytes.
func (u *unpickler) uint(n int) (v uint64, err error) {
	b, err := u.take(uint64(n))
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v, err
}

// counted is a number of n bytes and as many bytes as it says.
func (u *unpickler) counted(n int) ([]byte, error) {
	size, err := u.uint(n)
	if err != nil {
		return nil, err
	}
	return u.take(size)
}

func (u *unpickler) line() (string, error) {
	n := bytes.IndexByte(u.data[u.at:], '\n')
	if n < 0 {
		return "", fmt.Errorf("a line does not end: the file is cut off or not a pickle")
	}
	b, err := u.take(uint64(n) + 1)
	return strings.TrimSuffix(string(b[:n]), "\r"), err
}

// pyKind names a value's type for messages.
func pyKind(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case pyClass:
		return "class " + v.String()
	case pyTuple:
		return "tuple"
	case *pyList:
		return "list"
	case *pyDict:
		return "dict"
	case *pyObject:
		return v.class.String()
	case *torchTensor:
		return "tensor"
	case *torchStorage:
		return "storage"
	case pyLong:
		return "long"
	}
	return fmt.Sprintf("%T", v)
}
