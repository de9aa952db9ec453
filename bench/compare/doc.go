// Package compare judges two results of nsbpf bench: whether the new one is worse
// than is allowed, and whether that can be known. It is pure.
package compare
