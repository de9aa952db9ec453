// Package format writes results of nsbpf bench, and comparisons of them, in the
// formats of other programs. It is pure.
package format
