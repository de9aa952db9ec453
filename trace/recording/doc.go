// Package recording keeps what a trace was told, in the order in which it was
// told it, so that a replay comes to the same output without a lab and without
// root.
//
// A recording is lines of JSON: first what is known of the trace as a whole, a
// [Start], and then one object for each thing that came, with a "type". A capture
// file (pcapng) holds the same lines in blocks that other programs skip, and between
// them the packets as those other programs want them. docs/json.md
// describes the lines.
package recording
