// Package load puts load on the path from one namespace to another, and accounts
// for every packet of it: what was sent, what arrived, and where the rest went.
//
// What a load is, how its frames look and how its account adds up is pure. The
// generators (*_linux.go) need root: they open sockets inside the namespaces, or
// run a program of package bpf on live frames.
package load
