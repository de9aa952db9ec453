// Package report renders what the other packages found, as text and as JSON. It
// reads nothing but its arguments and writes nothing but to the given writer.
package report
