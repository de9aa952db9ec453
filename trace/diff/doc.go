// Package diff compares what two traces saw: the edges that packets went over, how
// they were dropped and translated, what was sent again, and how long it took.
//
// Everything goes by names, so that the labs may number their hops otherwise. That
// something is different is a matter of chance as long as few packets say so: each
// claim is tested, and all of them together are wrong in 5 % of comparisons of the
// same traffic at most.
package diff
