// Package clients has no code: its tests use the server as clients do that were not written for it.
package clients
