package checkpoint

import "darkroom/config"

// Config is a part's configuration.
type Config = config.Object

// ParseConfig is config.Parse.
func ParseConfig(text []byte, name string) (*Config, error) { return config.Parse(text, name) }
