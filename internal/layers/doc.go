// Package layers holds the tests of the project's own structure: which package
// may import which.
package layers
