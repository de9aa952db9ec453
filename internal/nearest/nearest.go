// Package nearest finds what a mistyped name was meant to be.
package nearest

import "fmt"

// Of returns the one of names that s is most likely a slip of, the first of
// several, or "" if none is near.
func Of(s string, names []string) string {
	best, at := "", max(1, min(3, len(s)/2))+1
	for _, n := range names {
		if d := distance(s, n); d < at && d < len(n) {
			best, at = n, d
		}
	}
	return best
}

// Hint returns the question whether the nearest of names was meant, or "".
func Hint(s string, names []string) string {
	if n := Of(s, names); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return ""
}

// distance returns the number of bytes to insert, delete or replace to make b
// of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
