package machine

import (
	"os"
	"path/filepath"
	"runtime"
)

// CacheFolder is where the program keeps what it can make again, "" if the system has no place for such things.
func CacheFolder() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "darkroom")
}

// HashFolder is where hashes of big weight files, verdicts of self-tests and tuned tiles are kept between runs, "" if
// there is no place for them.
func HashFolder() string {
	dir := CacheFolder()
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "hashes")
}

// ModelFolders are where models are found by name: those of DARKROOM_MODELS, or else the user's.
func ModelFolders() []string {
	if list := os.Getenv("DARKROOM_MODELS"); list != "" {
		return filepath.SplitList(list)
	}
	return UserModelFolders()
}

// UserModelFolders is where the system keeps a user's data.
func UserModelFolders() []string {
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
			data, _ = os.UserConfigDir()
		} else if home, err := os.UserHomeDir(); err == nil {
			data = filepath.Join(home, ".local", "share")
		}
	}
	if data == "" {
		return nil
	}
	return []string{filepath.Join(data, "darkroom", "models")}
}

// HistoryFile is where the history of this machine's user is, "" if there is no place for it, "off" if none is wanted.
func HistoryFile() string {
	if path := os.Getenv("DARKROOM_HISTORY"); path != "" {
		return path
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "darkroom", "history.jsonl")
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, ".local", "state", "darkroom", "history.jsonl")
}

// ConfigFile is where the user's configuration is, "" if there is no place for it; DARKROOM_CONFIG names another, or is off.
func ConfigFile() string {
	path := os.Getenv("DARKROOM_CONFIG")
	if path == "off" {
		return ""
	}
	if path != "" {
		return path
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "darkroom", "config.yaml")
}
