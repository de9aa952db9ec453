// Command nsbpf builds networks of namespaces, veth pairs, bridges and NAT,
// and shows what passes every hop of them.
package main

import "os"

func main() {
	os.Exit(run(newEnv(), os.Args[1:]))
}
