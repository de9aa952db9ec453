// Package chart draws a result of nsbpf bench as one SVG image that needs nothing
// else: no script, no font, no style sheet. It follows the reader's choice of a light
// or dark page. It is pure.
package chart
