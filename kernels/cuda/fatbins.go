//go:build cuda && linux && (amd64 || arm64)

package cuda

import "embed"

// fatbins holds the compiled kernels for every target. They are made by build.sh (make cuda), which has
// to run before `go build -tags cuda`.
//
//go:embed fatbin/*.fatbin
var fatbins embed.FS
