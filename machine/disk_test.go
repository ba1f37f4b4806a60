package machine

import (
	"runtime"
	"testing"
)

func TestFreeDisk(t *testing.T) {
	bytes, known := FreeDisk(t.TempDir())
	if runtime.GOOS == "linux" && (!known || bytes == 0) {
		t.Errorf("%d bytes, known %v", bytes, known)
	}
	if _, known := FreeDisk("testdata/none"); known {
		t.Error("a folder that is not there has space")
	}
}
