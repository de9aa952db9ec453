// Package stat says what samples of a benchmark are worth: medians and ratios with
// their intervals, tests, and how the order of the samples shows that they are
// not independent. It assumes of their distribution only what each function
// says. It is pure, and the same samples give the same answer.
package stat
