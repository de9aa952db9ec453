// Package examples holds topology files: the presets, which are part of the
// binary, and others that show what a file can say.
package examples

import "embed"

// Presets are the files of the presets, NAME.yaml each.
//
//go:embed pair.yaml bridge.yaml nat.yaml
var Presets embed.FS
