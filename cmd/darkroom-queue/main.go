// Command darkroom-queue is the server of darkroom's work queue.
package main

import (
	"os"

	"darkroom/batch/queue/server"
)

func main() {
	os.Exit(server.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
