// Package result is the document that nsbpf bench writes and compares: what was
// measured, on what machine, with every sample. It is pure.
//
// As JSON it is of schema nsbpf.bench/1 (docs/json.md).
package result
